"""The command line: what it answers, how fast, without torch, and with which exit codes."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from small import call, command, environment, plan_of, record_of, run_suite, runs_of, write_suite

from benchmark.cli.parser import main
from benchmark.machine.plugins import ROOT
from benchmark.models import mmdet, openmmlab
from benchmark.models.registry import models
from benchmark.paper.datasets import DATA_SETS
from benchmark.paper.manifest import load, suite_path
from benchmark.plan.experiment import Selection, make_plan
from methods.registry import methods

FORBID_TORCH = """
import sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ImportError("torch must not be imported here")

sys.meta_path.insert(0, Forbidden())
"""

TORCH_FREE = (
    ["--help"],
    ["run", "--help"],
    ["status"],
    ["status", "smoke", "--json"],
    ["list", "suites"],
    ["list", "recipes"],
    ["list", "models"],
    ["list", "methods"],
    ["list", "data"],
    ["list", "profiles"],
    ["show", "method", "diffkd"],
    ["show", "recipe", "A1"],
    ["show", "suite", "table9"],
    ["show", "schema"],
)


@pytest.fixture
def without_torch(workplace: Path) -> str:
    """Return a PYTHONPATH with which importing torch is an error."""
    folder = workplace / "forbid"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(FORBID_TORCH)
    return os.pathsep.join([str(folder), environment()["PYTHONPATH"]])


@pytest.mark.parametrize("arguments", TORCH_FREE, ids=" ".join)
def test_listings_and_status_do_not_import_torch(arguments: list[str], without_torch: str) -> None:
    done = call(*arguments, PYTHONPATH=without_torch)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["status", "mini-cifar100", "--results-dir", str(ROOT / "results")],
        *(
            ["list", kind]
            for kind in ("suites", "cells", "methods", "models", "recipes", "profiles", "data", "pending")
        ),
    ],
    ids=" ".join,
)
def test_what_must_answer_at_once_imports_neither_torch_nor_pandas(arguments: list[str], workplace: Path) -> None:
    slow = "print([name for name in ('torch', 'pandas', 'scipy') if name in sys.modules])"
    code = f"import sys; from benchmark.cli.parser import main; main({arguments!r}); {slow}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=120)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    assert len(done.stdout.splitlines()) > 1 or arguments == ["list", "pending"]


def test_the_ban_on_torch_bans_it(without_torch: str) -> None:
    done = call("show", "model", "resnet8", PYTHONPATH=without_torch)
    assert "torch must not be imported here" in done.stderr


def seconds(arguments: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, env=environment())
    return time.perf_counter() - began


def times_beside_the_bare_interpreter(arguments: Sequence[str], repeats: int) -> tuple[float, float]:
    """Return the median seconds of a command, and the factor by which starting Python is slower now than usual."""
    pairs = [(seconds([sys.executable, "-c", "pass"]), seconds(command(*arguments))) for _ in range(repeats)]
    bare, measured = (statistics.median(column) for column in zip(*pairs, strict=True))
    return measured, max(1.0, bare / 0.03)


def test_help_answers_in_under_0_3_seconds(workplace: Path) -> None:
    measured, load = times_beside_the_bare_interpreter(["--help"], 10)
    assert measured < 0.3 * load


@pytest.mark.parametrize("arguments", [["list", "cells", "table9"], ["status", "table9"], ["list", "methods"]])
def test_what_resolves_options_takes_3_seconds_at_most(arguments: list[str], workplace: Path) -> None:
    measured, load = times_beside_the_bare_interpreter(arguments, 3)
    assert measured < 3.0 * load


def test_help_documents_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    shown = capsys.readouterr().out
    assert stopped.value.code == 0
    assert {int(code) for code in re.findall(r"^ {2}(\d+) ", shown, re.MULTILINE)} == {0, 1, 2, 3, 4, 5, 130}


def test_a_wrong_flag_is_wrong_usage() -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["run", "smoke", "--seeds", "0"])
    assert stopped.value.code == 2


def test_run_carries_out_several_suites_and_prints_their_tables(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_suite(workplace / "first.yaml", {"Student": {"method": "none"}})
    second = write_suite(workplace / "second.yaml", {"Plain": {"method": "none"}, "KD": {"method": "kd"}})
    assert main(["run", str(first), str(second), "--threads", "1", "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert "3 runs of 3 experiments, 0 done, 3 pending on cpu" in shown  # the teacher, the student once, and KD
    assert "### Small (first, profile smoke)" in shown
    assert "### Small (second, profile smoke)" in shown
    assert "not comparable with published numbers" in shown
    assert (workplace / "runs" / "records" / "smoke" / "second.md").read_text() in shown
    assert "written to runs/records/smoke/second.md" in shown
    assert {path.name for path in workplace.iterdir()} <= {"first.yaml", "second.yaml", "no-data", "runs", "results"}


def test_a_table_of_results_lies_beside_its_records_wherever_one_stands(
    workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = write_suite(workplace / "one.yaml", {"Student": {"method": "none"}})
    places = ["--results-dir", str(tmp_path / "there"), "--runs-dir", str(tmp_path / "work")]
    assert run_suite(suite, *places) == 0
    assert f"written to {tmp_path / 'work' / 'records' / 'smoke' / 'one.md'}" in capsys.readouterr().out
    assert {path.name for path in workplace.iterdir()} == {"one.yaml", "no-data"}


def test_a_shipped_suite_is_known_by_the_path_that_it_has_in_a_checkout(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "suites/table9.yaml", "--json"]) == 0
    assert main(["plan", "suites/table99.yaml"]) == 2
    assert "no suite 'suites/table99.yaml'" in capsys.readouterr().err


def test_output_that_is_piped_is_plain_lines(workplace: Path) -> None:
    suite = write_suite(workplace / "piped.yaml", {"Student": {"method": "none"}})
    done = call("run", str(suite), "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert re.search(r"^generated/resnet8/none #0: top-1 \d+\.\d\d", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("kd", {"KD"}),  # a row, and its method
        ("d*kd", {"DKD"}),
        ("student", {"Student"}),
        ("resnet14-*", {"Student", "KD", "DKD", "Teacher"}),  # a pair
        ("mse", set()),
    ],
)
def test_only_chooses_rows_methods_and_pairs(pattern: str, expected: set[str], workplace: Path) -> None:
    rows = {"Teacher": {"subject": "teacher"}, "Student": {"method": "none"}}
    suite = write_suite(workplace / "only.yaml", rows | {"KD": {"method": "kd"}, "DKD": {"method": "dkd"}})
    if not expected:
        assert main(["plan", str(suite), "--only", pattern]) == 2
        return
    plan = plan_of(suite, only=(pattern,))
    assert {cell.row for cells in plan.cells.values() for cell in cells} == expected


def test_seeds_sets_the_repetitions(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = write_suite(workplace / "seeds.yaml")
    assert main(["plan", str(suite), "--seeds", "3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["repetition"] for row in rows if row["run"].startswith("generated/resnet14-resnet8/kd")] == [0, 1, 2]
    assert [row["repetition"] for row in rows if "resnet14/none" in row["run"]] == [0]  # one teacher serves all


def test_profile_replaces_the_suites_own(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "table9", "--profile", "smoke", "--only", "diffkd"]) == 0
    assert "generated/resnet56-resnet20/diffkd #0" in capsys.readouterr().out


def test_dry_run_trains_nothing(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = write_suite(workplace / "dry.yaml")
    assert run_suite(suite, "--dry-run") == 0
    assert "3 pending on cpu" in capsys.readouterr().out
    assert not list(workplace.rglob("*.json"))


@pytest.mark.parametrize("device", ["tpu9000", "cuda:63", "meta"])
def test_an_unknown_device_is_named(device: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = write_suite(workplace / "device.yaml")
    assert main(["run", str(suite), "--device", device]) == 2
    shown = capsys.readouterr().err
    assert device in shown
    assert "fix: --device cpu" in shown


def test_a_paper_profile_without_data_says_where_to_put_it(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "table9", "--device", "cpu"]) == 3
    shown = capsys.readouterr().err
    assert str(workplace / "no-data") in shown
    assert "curl" in shown
    assert "--data-dir" in shown


def test_a_data_dir_without_data_is_an_error_even_for_smoke(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = write_suite(workplace / "dir.yaml")
    (workplace / "empty").mkdir()
    assert run_suite(suite, "--data-dir", "empty") == 3
    assert "holds no CIFAR-100" in capsys.readouterr().err


def test_more_than_8_hours_need_a_yes(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = write_suite(workplace / "long.yaml", profile={"epochs": 1_000_000})
    assert run_suite(suite) == 2
    shown = capsys.readouterr()
    assert "3 pending on cpu: roughly" in shown.out  # the plan and its cost come first
    assert re.search(r"this may take \d+ hours", shown.err)
    assert "--yes" in shown.err
    assert not list(workplace.rglob("r0.json"))
    assert run_suite(suite, "--dry-run") == 0


def test_yes_goes_on(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.cli.planning.ASK_ABOVE_HOURS", 0.0)
    suite = write_suite(workplace / "yes.yaml", {"Student": {"method": "none"}})
    assert run_suite(suite) == 2
    assert run_suite(suite, "--yes") == 0


def test_plan_as_json_stays_json_without_data(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "table9", "--json"]) == 0
    shown = capsys.readouterr()
    rows = json.loads(shown.out)
    assert {row["run"] for row in rows} >= {"cifar100/resnet56-resnet20/diffkd #2", "cifar100/resnet56/none #0"}
    assert all(row["estimated_seconds"] > 0 for row in rows)
    assert "NOTE: CIFAR-100 is not in" in shown.err


def test_plan_names_what_it_leaves_out(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = write_suite(
        workplace / "left.yaml", {"KD": {"method": "kd"}, "Later": {"method": "later", "pending": ["method later"]}}
    )
    assert main(["plan", str(suite)]) == 0
    assert "left out: 1 cells, not available yet: method later" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["methods", "models", "recipes", "profiles", "data"])
def test_every_listing_has_a_table_and_json(what: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert main(["list", what, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == len(lines)
    assert header.split()[0] in rows[0]


def test_suites_and_cells_are_listed(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "suites", "table9", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["suite"], row["cells"], row["repetitions"]) == ("table9", 60, 3)
    assert main(["list", "cells", "table9", "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)
    (cell,) = [c for c in cells if c["row"] == "DiffKD" and c["column"] == "ResNet-56 -> ResNet-20"]
    assert (cell["value"], cell["std"], cell["printed"], cell["standing"]) == (71.92, 0.14, "71.92±0.14", "authors")


def test_show_method_gives_every_option_with_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "method", "kd", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert set(shown["options"]) == set(methods()["kd"].options.model_fields)
    assert shown["options"]["temperature"]["default"] == 4.0
    assert all(option["source"] for option in shown["options"].values())


def test_show_model_recipe_and_suite(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "model", "resnet20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters, 100 classes"] == 278_324
    assert main(["show", "recipe", "A1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["milestones"] == [150, 180, 210]
    assert main(["show", "suite", "table9"]) == 0
    assert "71.92±0.14" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "side", "billions"), [("swin_tiny", 224, 4.5), ("torchvision:regnet_y_400mf", 224, 0.4)]
)
def test_show_model_counts_on_images_that_the_network_takes(
    name: str, side: int, billions: float, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "model", name, "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)[f"multiply-adds, {side} x {side}"]
    assert round(counted / 1e9, 1) == billions


@pytest.mark.slow
def test_every_listed_model_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    needs_packages = set(mmdet.MODELS) if openmmlab.missing() else set()
    wrong = [name for name in models() if main(["show", "model", name]) != (3 if name in needs_packages else 0)]
    assert not wrong, capsys.readouterr().err


def test_show_schema_is_the_json_schema_of_a_manifest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["additionalProperties"] is False
    assert {"suite", "rows", "columns", "setting", "profiles"} <= set(schema["properties"])
    assert {"suite", "title", "source", "columns", "rows"} == set(schema["required"])
    assert "method" in schema["$defs"]["Row"]["properties"]


def test_show_experiment_finds_smoke_runs_and_says_what_they_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    path = suite_path("table7")
    plans = {
        profile: make_plan([load(path)], Selection(only=("KL div.",), profile=profile, absent=frozenset({"imagenet"})))
        for profile in ("paper", "smoke")
    }
    (paper,), (smoke,) = (plans[profile].experiments for profile in ("paper", "smoke"))
    assert main(["show", "experiment", paper, "--json"]) == 0
    assert "note" not in json.loads(capsys.readouterr().out)
    assert main(["show", "experiment", smoke, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert "not comparable with published numbers: profile smoke, generated images" in shown["note"]
    assert shown["serves"] == ["table7/KL div./Top-1"]


def test_show_run_and_unknown_names(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = write_suite(workplace / "shown.yaml", {"Student": {"method": "none"}})
    run_suite(suite)
    run = runs_of(suite)["Student"]
    capsys.readouterr()
    assert main(["show", "run", run.experiment.identity[:8], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["last"] == record_of(run, workplace).last
    assert main(["show", "method", "difkd"]) == 2
    assert "did you mean 'diffkd'?" in capsys.readouterr().err
    assert main(["show", "run", "ffffffff"]) == 2


@pytest.mark.parametrize(
    ("what", "fix"),
    [("method", "list methods"), ("suite", "list suites"), ("experiment", "list cells"), ("run", "status SUITE")],
)
def test_show_without_a_name_says_where_the_names_are(what: str, fix: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", what]) == 2
    shown = capsys.readouterr().err
    assert f"error: show {what} needs a name\n  fix: python -m benchmark {fix} prints the" in shown


def test_status_counts_what_is_done_and_missing(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = write_suite(workplace / "counted.yaml")
    run_suite(suite, "--only", "student")
    capsys.readouterr()
    assert main(["status", str(suite), "--json"]) == 0
    summary, *runs = json.loads(capsys.readouterr().out)
    assert (summary["runs"], summary["done"], summary["missing"]) == (3, 1, 2)
    assert {run["run"]: run["state"] for run in runs} == {
        "generated/resnet14/none #0": "missing",
        "generated/resnet8/none #0": "done",
        "generated/resnet14-resnet8/kd #0": "missing",
    }


def test_doctor_names_what_is_there_and_the_fix(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    rows = {row["what"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["torch"]["state"] == "ok"
    assert {rows[title]["state"] for title in (each.title for each in DATA_SETS.values())} == {"absent"}
    assert "curl" in rows["CIFAR-100"]["fix"]
    for title in ("ImageNet", "ImageNet-100"):
        assert str(workplace / "no-data") in rows[title]["found"]
        assert "train/CLASS/IMAGE.JPEG" in rows[title]["fix"] and "--profile smoke" in rows[title]["fix"]
    assert rows["disk"]["found"].endswith(str(workplace / "runs"))


def test_doctor_fails_where_records_cannot_be_written(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "results").write_text("a file where the folder should be")
    assert main(["doctor"]) == 1
    assert "cannot write" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_error(workplace: Path) -> None:
    listing = subprocess.Popen(
        command("show", "schema"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    assert listing.stdout is not None
    listing.stdout.close()
    _, errors = listing.communicate(timeout=60)
    assert listing.returncode == 0
    assert errors == b""
