"""Variants: other readings of a row, run by name, shown beside the suite's own and never mixed with it."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from small import raw_record, run_suite, runs_of, store_in, write_suite
from written_records import TABLE, USUAL, Bench, around, cell_of, find, write

from benchmark.cli.parser import main
from benchmark.errors import UsageError
from benchmark.judge.verdicts import Verdict
from benchmark.judge.views import Comparison
from benchmark.paper.manifest import load, load_all
from benchmark.plan.experiment import Selection, experiment_of, make_plan
from benchmark.report import markdown
from benchmark.report.rendering import render

WARM = {"options": {"kd": {"temperature": 8}}, "note": "softer, as a second source has it"}
ROWS: dict[str, dict[str, Any]] = {
    "Student": {"method": "none"},
    "KD": {"method": "kd", "variants": {"softer": WARM}},
    "MSE": {"method": "mse", "variants": {"slow": {"recipe": "A1-small", "note": "a lower rate"}}},
}


def labels(path: Path, **selection: Any) -> list[tuple[str, str]]:
    """Return the cells that a plan serves, each with its method's options."""
    plan = make_plan([load(path)], Selection(stand_in=True, **selection))
    found = []
    for identity, experiment in plan.experiments.items():
        found += [(cell.id, str(experiment.method.as_yaml())) for cell in plan.cells.get(identity, ())]
    return found


def test_a_variant_is_run_instead_of_the_row_and_has_its_own_record(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = write_suite(workplace / "mine.yaml", ROWS)
    assert run_suite(suite, "--variant", "softer") == 0
    shown = capsys.readouterr().out
    assert "mine@softer" in shown
    assert re.search(r"^\| KD @softer \| \d", shown, re.MULTILINE)
    assert store_in(workplace).read(runs_of(suite)["KD"]) is None
    plan = make_plan([load(suite)], Selection(stand_in=True, variants=("softer",)))
    (run,) = (run for run in plan.runs if run.teacher is not None)
    record = raw_record(run, workplace)
    assert record["experiment"]["method"]["kd"]["temperature"] == 8
    assert record["requested"]["cells"] == ["mine/KD/Top-1@softer"]


def test_what_a_variant_changes(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "mine.yaml", ROWS)
    assert labels(suite, variants=("softer",)) == [("mine/KD/Top-1@softer", "{'kd': {'temperature': 8.0}}")]
    both = labels(suite, variants=("slow", "softer"))
    assert [name for name, _ in both] == ["mine/KD/Top-1@softer", "mine/MSE/Top-1@slow"]
    main_ones = [name for name, _ in labels(suite)]
    assert main_ones == ["mine/Student/Top-1", "mine/KD/Top-1", "mine/MSE/Top-1"]


def test_variants_of_one_name_act_together_and_win_over_the_methods_own_options(tmp_path: Path) -> None:
    rows = {
        "KD": {
            "method": {"kd": {"temperature": 2, "weight": 3}},
            "variants": {"both": {"options": {"kd": {"temperature": 8}}, "note": "softer"}},
        }
    }
    columns = [{"column": "Top-1", "variants": {"both": {"recipe": "A1-small", "note": "a lower rate"}}}]
    suite = load(write_suite(tmp_path / "mine.yaml", rows, columns=columns))
    ((cell,),) = suite.variants.values()
    method = cell.method()
    assert method is not None
    assert method.as_yaml() == {"kd": {"temperature": 8.0, "weight": 3.0}}
    assert (cell.setting.recipe, cell.setting.note) == ("A1-small", "a lower rate; softer")


def test_a_variant_that_makes_the_same_experiment_is_not_planned(tmp_path: Path) -> None:
    rows: dict[str, dict[str, Any]] = {"Teacher": {"subject": "teacher"}, "Student": {"method": "none"}}
    columns = [
        {"column": "Top-1", "recipe": "A1-small", "variants": {"fast": {"recipe": "A1", "note": "a higher rate"}}}
    ]
    suite = write_suite(tmp_path / "mine.yaml", rows, columns=columns)
    # A1-small trains its teachers with A1, so the teacher is the same under both.
    assert [name for name, _ in labels(suite, variants=("fast",))] == ["mine/Student/Top-1@fast"]


def test_an_unknown_variant_lists_those_of_the_rows(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = write_suite(workplace / "mine.yaml", ROWS)
    assert main(["plan", str(suite), "--variant", "soft"]) == 2
    shown = capsys.readouterr().err
    assert "these rows of mine have no variant 'soft'" in shown
    assert "did you mean 'softer'?" in shown
    assert main(["plan", str(suite), "--variant", "softer", "--only", "MSE"]) == 2
    shown = capsys.readouterr().err
    assert "have no variant 'softer'" in shown and "slow" in shown


def test_only_finds_a_variant_by_its_cells_name_its_own_and_what_it_changes(tmp_path: Path) -> None:
    rows = {"KD": {"method": "kd", "variants": {"wide": {"student": "resnet14", "note": "a larger student"}}}}
    suite = write_suite(tmp_path / "mine.yaml", rows)
    for pattern in ("mine/KD/Top-1", "mine/KD/Top-1@wide", "resnet14"):
        found = [name for name, _ in labels(suite, variants=("wide",), only=(pattern,))]
        assert found == ["mine/KD/Top-1@wide"], pattern


def test_a_variant_of_copied_rows_alone_says_how_these_are_run(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {"KD": ROWS["KD"] | {"standing": "cited"}, "MSE": ROWS["MSE"] | {"standing": "authors"}}
    suite = write_suite(workplace / "mine.yaml", rows)
    assert main(["plan", str(suite), "--variant", "softer"]) == 2
    assert "rows that the paper copied have it, such as KD: add --all, or --only 'KD'" in capsys.readouterr().err
    for more in ("--all", "--only=KD"):
        assert main(["plan", str(suite), "--variant", "softer", more]) == 0


@pytest.mark.parametrize(
    ("variant", "complaint"),
    [
        ({"options": {"kd": {"temperature": 8}}}, "the variant 'other' needs a `note`"),
        ({"options": {"kd": {"temperature": 4}}, "note": "as it is"}, "the variant 'other' changes no cell here"),
        ({"options": {"dkd": {"beta": 4}}, "note": "of another row"}, "the variant 'other' changes no cell here"),
        ({"options": {"kd": {"temprature": 8}}, "note": "misspelt"}, "no such option; did you mean 'temperature'"),
        ({"recipe": "A2", "note": "unknown"}, "unknown recipe 'A2'"),
        ({"options": {"kd": {"temperature": 8}}, "note": " "}, "the variant 'other' needs a `note`"),
        ({"recipe": "A1-small", "metric": "top5", "note": "of others"}, "the variant 'other' sets metric, which it"),
        ({"subject": "teacher", "epoch": "best", "note": "of others"}, "'other' sets subject, epoch, which it cannot"),
        ({"note": "nested", "variants": {}}, "unknown key 'variants'; did you mean 'runs'?"),
        ({"recip": "A1", "note": "unknown"}, "unknown key 'recip'; did you mean 'recipe'"),
    ],
)
def test_a_mistake_in_a_variant_is_named_with_its_line(tmp_path: Path, variant: dict[str, Any], complaint: str) -> None:
    rows = {"KD": {"method": {"kd": {"temperature": 4}}, "variants": {"other": variant}}}
    path = write_suite(tmp_path / "mine.yaml", rows)
    with pytest.raises(UsageError, match=rf"mine.yaml:\d+: .*{re.escape(complaint)}"):
        load(path)


def with_variant(bench: Bench) -> Comparison:
    """Compare a table whose KD was run five times as the suite has it and five times under a variant."""
    rows = copy.deepcopy(TABLE["rows"])
    rows[2]["variants"] = {"softer": WARM}
    rows[3]["variants"] = {"slow": {"recipe": "A1-small", "note": "a lower rate"}}
    suite = bench.table(rows=rows)
    for cell, middle in ((find(suite, "KD"), 70.66), (suite.variants["small/KD/Top-1"][0], 68.0)):
        experiment = experiment_of(cell, "paper", suite.profile("paper"))
        assert experiment is not None
        write(bench.store, experiment, around(middle, USUAL))
    return bench.compare()


def test_both_readings_are_judged_side_by_side_and_never_mixed(tmp_path: Path) -> None:
    comparison = with_variant(Bench(tmp_path))
    (table,) = comparison.tables
    kd = cell_of(comparison, "KD")
    (softer,) = table.variants
    assert kd.achieved is not None and softer.achieved is not None
    assert (kd.achieved.n, softer.achieved.n) == (5, 5)
    assert (round(kd.achieved.mean or 0, 2), round(softer.achieved.mean or 0, 2)) == (70.66, 68.0)
    assert (str(kd.verdict), str(softer.verdict)) == ("reproduced", "below")
    assert table.not_run == {"slow": 1}
    assert Verdict.BELOW not in comparison.counts
    assert sum(comparison.counts.values()) == 5  # of the five printed numbers; a variant adds none
    assert comparison.coverage.run == 1
    assert comparison.inputs.unknown == 0
    text = markdown.report(comparison)
    assert "### Variants" in text
    assert re.search(r"\| KD \| Top-1 \| 70.66±0.24 \| 70.66±0.19 \(5\)<br>\*reproduced\* \| softer \| 68.00", text)
    assert "Not run: slow (1 cell). `python -m benchmark run small --variant NAME` runs one." in text


@pytest.mark.parametrize("profile", ["paper", "mini"])
def test_a_variants_runs_are_not_those_of_a_row_that_was_not_run(tmp_path: Path, profile: Any) -> None:
    bench = Bench(tmp_path)
    rows = copy.deepcopy(TABLE["rows"])
    rows[3]["variants"] = {"slow": {"recipe": "A1-small", "note": "a lower rate"}}
    suite = bench.table(rows=rows, profile=profile)
    (slow,) = suite.variants["small/MSE/Top-1"]
    experiment = experiment_of(slow, profile, suite.profile(profile))
    assert experiment is not None
    write(bench.store, experiment, around(68.0, USUAL))
    comparison = bench.compare()
    cell = cell_of(comparison, "MSE")
    assert (str(cell.verdict), cell.runs, cell.near) == ("not run", (), ())
    assert [len(found.runs) for found in comparison.tables[0].variants] == [5]


def test_the_page_shows_a_variant_with_its_own_runs(tmp_path: Path) -> None:
    page = render(with_variant(Bench(tmp_path)))
    assert "Variants: other readings of what the source leaves open, 1 with runs" in page
    assert re.search(r'<button type="button" popovertarget="small-variant-1"[^>]*>softer</button>', page)
    assert 'id="small-variant-1"' in page
    assert "softer, as a second source has it" in page


def test_every_variant_of_the_papers_suites_can_be_planned() -> None:
    suites = load_all()
    found: dict[str, set[str]] = {}
    for suite in suites:
        for variants in suite.variants.values():
            for cell in variants:
                found.setdefault(suite.name, set()).add(cell.variant)
    forms, pyramid = {"paper", "june2023"}, {"lambda-1", "shared-levels", "maskd"}
    assert found["table2"] == {*forms, "dist-weight-2"}
    assert found["table3"] == {*forms, "teacher-a2", "teacher-a1h"}
    assert found["table9"] == {*forms, "lr-0.05", "interpolate", "published-teachers", "distinct-negatives"}
    assert found["table4"] == found["table12"] == pyramid
    assert found["table5"] == {*pyramid, "class-boxes", "teacher-2x", "teacher-3x"}
    assert found["table6"] == {"maskd", "adversarial"}
    for suite in (suite for suite in suites if suite.name in found):
        plan = make_plan([suite], Selection(all_rows=True, variants=tuple(found[suite.name])))
        main_ones = make_plan([suite], Selection(all_rows=True))
        students = {identity for identity, cells in plan.cells.items() if cells}
        assert students and not students & main_ones.declared.keys()


def test_status_and_show_know_variants(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite, plain = write_suite(workplace / "mine.yaml", ROWS), write_suite(workplace / "plain.yaml")
    assert run_suite(suite, "--variant", "softer") == 0
    capsys.readouterr()
    # The suite without this variant is left out.
    assert main(["status", str(suite), str(plain), "--variant", "softer", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["suite"] for row in rows if "suite" in row] == ["mine"]
    assert {row["run"].split(" ")[0] for row in rows if row.get("state") == "done"} == {
        "generated/resnet14/none",
        "generated/resnet14-resnet8/kd",
    }
    assert main(["status", str(plain), "--variant", "softer"]) == 2
    assert "these rows of plain have no variant 'softer'" in capsys.readouterr().err
    assert main(["list", "cells", "table9", "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)
    crd = next(cell for cell in cells if cell["row"] == "CRD")
    identity = crd["variants"]["distinct-negatives"]
    assert identity != crd["experiment"]
    assert main(["show", "experiment", identity, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["method"]["crd"]["replacement"] is False
    assert shown["serves"] == [f"table9/CRD/{crd['column']}@distinct-negatives"]
