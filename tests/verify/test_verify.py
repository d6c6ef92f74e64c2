"""`verify`: published costs, side networks, exported students, pairs by shapes, the cache and the committed file."""

import json
import shutil
from functools import cache
from pathlib import Path

import pytest

from benchmark.cli.parser import main
from benchmark.errors import StorageError
from benchmark.paper.manifest import load, suite_path
from benchmark.paper.readings import FOLDER
from benchmark.records.static import STATIC, CostClaim, StaticCell, read_static
from benchmark.verify import claim_check, cost_check, everything, exported_students, pairs
from benchmark.verify.findings import Export, Findings, static_text
from benchmark.verify.text import text
from methods.registry import methods


def quiet(line: str) -> None:
    pass


@cache
def judged(name: str) -> Findings:
    findings, suites = Findings(), [load(suite_path(name))]
    if name == "table6":
        cost_check.add_networks(findings, suites, full=False, say=quiet)
    cost_check.add_cells(findings, suites, quiet)
    return findings


def by_id(name: str) -> dict[str, StaticCell]:
    return {cell.cell: cell for cell in judged(name).cells}


def test_table_6_comes_out_to_the_printed_digit() -> None:
    cells = by_id("table6")
    assert len(cells) == 44
    assert {cell.verdict for cell in cells.values()} == {"equal"}
    flops = {cell.about: (cell.printed, cell.convention) for cell in cells.values() if cell.metric == "macs_g"}
    assert flops == {
        "deeplabv3_resnet101": ("2371.7", "cirkd"),
        "deeplabv3_resnet18": ("572.0", "cirkd"),
        "deeplabv3_mobilenetv2": ("128.9", "cirkd"),
        # 507.3466 by the counter: 507.3 if rounded once.
        "pspnet_resnet18": ("507.4", "cirkd, rounded twice"),
    }


def test_table_6_shows_the_true_counts_and_the_overcount() -> None:
    cell = by_id("table6")["table6/DeepLabV3-R18/T: DeepLabV3-R101/FLOPs (G)"]
    assert cell.true == 2063.35
    assert "+14.9%" in cell.true_counts
    assert set(cell.tried) == {"macs", "cirkd", "flops"}


def test_table_8_is_judged_by_one_convention_for_all_widths() -> None:
    cells = {name.removeprefix("table8/FLOPs (G)/"): cell for name, cell in by_id("table8").items()}
    assert {cell.convention for cell in cells.values()} == {"autoencoder, projection and noise predictor, 2 passes"}
    # By hand, in units of 49 latent widths L squared: 3.125 a pass, and 1024 + 2 x 2048 over L for the projections.
    by_hand = {
        width: 49 * (2 * 3.125 * width**2 + (1024 + 2 * 2048) * width) / 1e9 for width in (128, 256, 512, 1024, 2048)
    }
    assert {int(n): c.value for n, c in cells.items() if n.isdigit()} == pytest.approx(by_hand, rel=1e-5)
    found = {name: cell.verdict for name, cell in cells.items()}
    assert [name for name, verdict in found.items() if verdict == "equal"] == ["128", "512", "1024"]
    assert cells["1024"].true == pytest.approx(1.29, abs=0.005)
    assert "18 conventions tried" in cells["2048"].reason


def test_table_12_is_the_noise_predictor_without_its_time_embedding() -> None:
    cells = by_id("table12")
    params = cells["table12/Efficient DM (ours)/Params"]
    assert (params.verdict, params.value, params.tried["noise predictor"]) == ("equal", 0.207872, 0.535552)
    assert cells["table12/Efficient DM (ours)/GFLOPs"].verdict == "differs"
    assert cells["table12/UNet (DDPM)/GFLOPs"].verdict in ("not verifiable here", "equal", "differs")


def test_section_c6_gives_nearest_and_true_cost() -> None:
    cells = by_id("section_c6")
    ours = cells["section_c6/DiffKD/Extra FLOPs (M)"]
    assert (ours.verdict, ours.convention) == ("differs", "noise predictor, 5 passes")
    assert (round(ours.value or 0, 1), round(ours.true or 0)) == (802.8, 1214)
    assert "it is the printed number" in ours.reason  # 800 to the hundreds
    assert round(cells["section_c6/ReviewKD/Extra FLOPs (M)"].value or 0) == 1938
    assert CRD_ROWS < cells["section_c6/CRD/Extra FLOPs (M)"].tried["rows that the loss reads"] < CRD_ROWS + 0.2


CRD_ROWS = 2 * 16385 * 128 / 1e6


def test_claims_about_cost_are_answered_from_the_counts() -> None:
    findings = Findings(
        cells=[*judged("section_c6").cells, *judged("table8").cells],
        tables=judged("table8").tables,
        exports=[Export("diffkd", True, True, True)],
    )
    claim_check.add_claims(findings)
    outcomes = {claim.id: claim.outcome for claim in findings.claims}
    assert outcomes["extra-cost"] == "does not follow"
    assert outcomes["cost-acceptable"] == "holds"
    assert outcomes["two-passes-or-six"] == "does not follow"
    assert outcomes["autoencoder-cheaper"] == "holds"  # it can; at 2048 it is dearer
    assert outcomes["inference-unchanged"] == "holds"


def test_claims_without_counts_cannot_be_checked() -> None:
    findings = Findings()
    claim_check.add_claims(findings)
    assert {claim.outcome for claim in findings.claims} == {"cannot be checked"}


BROKEN = '''
"""Two methods that do not keep to the rules."""
import torch
from torch import nn
from methods.base import LOGITS, Losses, Method

class Broken(Method):
    """Fails when it is built."""
    taps = (LOGITS,)
    def build(self, pair):
        self.layer = nn.Linear(pair.student_shapes["logits"][0], -1)

class Sticky(Method):
    """Leaves a layer in the student."""
    taps = (LOGITS,)
    def losses(self, student, teacher, batch, moment):
        return Losses({"x": student[LOGITS].square().mean()})
    def merge(self, student):
        student.left_behind = nn.Linear(2, 2)
        return student
'''


@pytest.fixture
def extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "two_broken_methods.py").write_text(BROKEN)
    monkeypatch.setenv("BENCHMARK_EXTRA", str(tmp_path / "extra"))


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    known = methods()
    monkeypatch.setattr(exported_students, "methods", lambda: {name: known[name] for name in names})


def test_exported_students_are_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "none", "diffkd", "fitnet")
    findings = Findings()
    exported_students.check(findings, quiet)
    assert [export.method for export in findings.exports] == ["none", "diffkd", "fitnet"]
    assert all(export.equal for export in findings.exports)
    assert findings.problems == []


@pytest.mark.usefixtures("extra")
def test_a_student_that_keeps_a_side_network_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "sticky")
    findings = Findings()
    exported_students.check(findings, quiet)
    assert findings.problems == ["the student exported after sticky is not the plain one"]


@pytest.mark.usefixtures("extra")
def test_pairs_are_built_and_a_broken_method_is_a_problem(tmp_path: Path) -> None:
    manifest = tmp_path / "mine.yaml"
    manifest.write_text(
        "suite: mine\ntitle: mine\nsource: ours\n"
        "setting: {task: classification, data: cifar100, teacher: resnet14, student: resnet8, recipe: A1}\n"
        "columns: [{column: Top-1, metric: top1}]\n"
        "rows:\n  - {row: KD, method: kd}\n  - {row: KD again, method: kd}\n  - {row: Broken, method: broken}\n"
        "  - {row: Later, method: unborn, pending: [method unborn]}\n"
    )
    findings = Findings()
    pairs.build(findings, [load(manifest)], quiet)
    assert [(built.method, built.outcome, built.cells) for built in findings.pairs] == [
        ("broken", "failed", 1),
        ("kd", "built", 2),
    ]
    assert len(findings.problems) == 1 and "broken on resnet14 -> resnet8" in findings.problems[0]
    assert [(item.what, item.why) for item in findings.unchecked] == [
        ("pairs of 1 cells", "not available yet: method unborn")
    ]


def test_findings_survive_json() -> None:
    findings = judged("table6")
    again = Findings.from_json(json.loads(json.dumps(findings.as_json())))
    assert again == findings
    assert text(again) == text(findings)


def test_the_committed_text_is_sorted_and_free_of_the_machine() -> None:
    first = judged("table6")
    shuffled = Findings.from_json({**first.as_json(), "cells": first.as_json()["cells"][::-1]})
    assert static_text(shuffled) == static_text(first)
    assert "fvcore" not in static_text(first)


def test_the_cache_spares_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Findings(experiments=7)
    monkeypatch.setattr(everything, "verify", lambda full, say: found)
    assert everything.cached(tmp_path, full=False, fresh=False, say=quiet) == found
    monkeypatch.setattr(everything, "verify", lambda full, say: Findings(experiments=8))
    assert everything.cached(tmp_path, full=False, fresh=False, say=quiet) == found
    assert everything.cached(tmp_path, full=True, fresh=False, say=quiet).experiments == 8
    assert everything.cached(tmp_path, full=False, fresh=True, say=quiet).experiments == 8


def verify(tmp_path: Path, *more: str) -> int:
    return main(["verify", "--runs-dir", str(tmp_path), "--results-dir", str(tmp_path / "results"), *more])


def test_the_command_refreshes_the_committed_file_and_gates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Findings(claims=[CostClaim("extra-cost", "holds", "yes")])
    monkeypatch.setattr(everything, "verify", lambda full, say: found)
    assert verify(tmp_path, "--check") == 5
    assert verify(tmp_path) == 0
    assert verify(tmp_path, "--check") == 0
    capsys.readouterr()
    assert verify(tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["claims"][0]["id"] == "extra-cost"
    found.problems.append("something is wrong")
    assert verify(tmp_path, "--fresh") == 5
    assert "something is wrong" in capsys.readouterr().out


def test_the_committed_file_can_be_read() -> None:
    found = read_static(STATIC)
    assert found.cells["table6/DeepLabV3-R18/S: DeepLabV3-R18/Params (M)"].verdict == "equal"
    assert found.claims["inference-unchanged"].outcome == "holds"


def test_a_file_of_another_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "static.json").write_text('{"version": 0}')
    with pytest.raises(StorageError, match="verify writes it"):
        read_static(tmp_path / "static.json")


def test_readings_with_a_mistake_are_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = suite_path("table7")
    (tmp_path / FOLDER).mkdir()
    copied = Path(shutil.copy(table, tmp_path))
    text = (table.parent / FOLDER / table.name).read_text()
    (tmp_path / FOLDER / table.name).write_text(text.replace("printed: 70.13", "printed: 70.14"))
    monkeypatch.setattr(pairs, "suite_files", lambda: [copied])
    findings = Findings()
    assert [suite.name for suite in pairs.lint(findings)] == ["table7"]
    (problem,) = findings.problems
    assert "printed '70.14', but table7.yaml has '70.13'" in problem
