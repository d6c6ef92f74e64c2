"""What a machine decides of a dense run: precision that it has, and processes that decode, which change no bit."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import detection_runs
import pytest
import segmentation_runs
from small import run_suite

from benchmark.cli.parser import main
from benchmark.plan.experiment import Run
from benchmark.train.dense.feeding import Augmented

TASKS = pytest.mark.parametrize("runs", [detection_runs, segmentation_runs], ids=["detection", "segmentation"])
SEGMENTATION_FIRST = pytest.mark.parametrize(
    "runs",
    [
        pytest.param(segmentation_runs, id="segmentation"),
        pytest.param(detection_runs, id="detection", marks=pytest.mark.slow),
    ],
)


@TASKS
@pytest.mark.parametrize("precision", ["bf16", "fp16", "tf32"])
def test_precision_that_a_cpu_has_not_is_refused_before_anything_is_built(
    precision: str, runs: ModuleType, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = runs.suite(workplace, setting={"precision": precision})
    assert run_suite(suite, "--only", "Student") == 2
    shown = capsys.readouterr()
    assert f"{precision} in {runs.SETTING['task']} needs a CUDA device, and this run is on cpu" in shown.err
    assert ("MMEngine has mixed precision for GPUs alone" in shown.err) == (precision != "tf32")
    assert "fix: --device cuda, or precision fp32 in the manifest" in shown.err
    assert "Traceback" not in shown.out + shown.err
    assert not list(workplace.rglob("r0.json")) and not (workplace / "runs" / "generated").exists()


@SEGMENTATION_FIRST
def test_results_are_the_same_bits_with_any_number_of_decoding_processes(
    runs: ModuleType, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = Augmented.__getitem__

    def noting(self: Augmented, place: Any) -> Any:
        (folder / f"decoded-by-{os.getpid()}").touch()
        return decode(self, place)

    monkeypatch.setattr(Augmented, "__getitem__", noting)
    outcomes = []
    for workers in (0, 2):
        folder = workplace / str(workers)
        folder.mkdir()
        run: Run = runs.runs_by_row(runs.suite(workplace))["Student"]
        record = runs.carry_out(run, folder, workers=workers)
        outcomes.append((record.weights_sha256, record.last, record.tracked))
        mine = folder / f"decoded-by-{os.getpid()}"
        assert mine.exists() == (workers == 0)
        assert len(list(folder.glob("decoded-by-*"))) == (1 if workers == 0 else 2 * 2)  # new ones every epoch
    assert outcomes[0] == outcomes[1]


def test_run_hands_its_workers_on(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []
    for name in ("training_loader", "test_loader"):
        loader = getattr(__import__("benchmark.train.dense.feeding", fromlist=[name]), name)

        def noting(*given: Any, loader: Any = loader) -> Any:
            asked.append(given[-1])
            return loader(*given[:-1], 0)

        monkeypatch.setattr(f"benchmark.train.dense.feeding.{name}", noting)
    suite = segmentation_runs.suite(workplace)
    assert main(["run", str(suite), "--only", "Student", "--workers", "3", "--device", "cpu", "--threads", "1"]) == 0
    assert asked == [3, 3]  # training, evaluation
