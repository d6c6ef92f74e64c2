"""The cost of a plan, compared with the files of a finished run, and with schedules that can be checked by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from small import ROWS, plan_of, run_suite, runs_of, store_in, write_suite

from benchmark.cli.parser import main
from benchmark.plan import budget as costs


@pytest.fixture
def suite(workplace: Path) -> Path:
    return write_suite(workplace / "costs.yaml", ROWS | {"DKD": {"method": "dkd"}}, profile={"repetitions": 2})


def test_a_schedule_waits_for_teachers_and_fills_the_devices(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        costs, "seconds", lambda experiment, *rest: 3600.0 * (2 if experiment.student == "resnet14" else 1)
    )
    runs = plan_of(suite).runs  # a teacher of two hours; six runs of one hour, four of which wait for it
    assert [costs.lasts(runs, "cuda", devices) for devices in (1, 2, 64)] == [8.0, 4.0, 3.0]
    found = costs.budget(runs, "cuda")
    assert (found.runs, found.hours, found.longest_hours) == (7, 8.0, 3.0)


def test_files_and_bytes_are_about_what_a_run_leaves(suite: Path, workplace: Path) -> None:
    assert run_suite(suite, "--only", "Student", "--seeds", "1") == 0
    run = runs_of(suite)["Student"]
    paths = store_in(workplace).paths(run)
    left = [path for folder in (paths.work, paths.record.parent) for path in folder.iterdir()]
    found = costs.budget([run], "cpu")
    assert found.files == len(left)
    assert found.kept_bytes == pytest.approx(sum(path.stat().st_size for path in left), rel=0.2)


def test_side_networks_of_a_distilled_run_stay_and_are_counted(workplace: Path) -> None:
    suite = write_suite(workplace / "sides.yaml", {"DiffKD": {"method": "diffkd"}})
    assert run_suite(suite, "--seeds", "1") == 0
    run = runs_of(suite)["DiffKD"]
    paths = store_in(workplace).paths(run)
    left = [path for folder in (paths.work, paths.record.parent) for path in folder.iterdir()]
    assert paths.side_networks in left
    assert costs.budget([run], "cpu").files == len(left)


def test_plan_says_what_so_many_gpus_would_take(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(suite), "--gpus", "8", "--gpus", "64"]) == 0
    shown = capsys.readouterr().out
    assert "7 runs" in shown
    assert "8 GPUs: " in shown
    assert "64 GPUs: " in shown
    assert "in 46 files when all runs are done" in shown  # four of the seven runs may have side networks
