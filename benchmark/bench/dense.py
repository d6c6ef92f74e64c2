"""The cost of a dense method: the ratio of its step time to the plain student's. Both take turns in one process.

`python -m benchmark.bench.dense table4 --only '*/One-stage*/DiffKD/*' --profile smoke --steps 5`
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmark.data import finder
from benchmark.errors import BenchmarkError, CannotServe, UsageError
from benchmark.machine import provenance
from benchmark.machine.devices import pick_device
from benchmark.models import openmmlab
from benchmark.paper.manifest import load, suite_path
from benchmark.paper.tasks import TASKS
from benchmark.plan.experiment import Run, Selection, make_plan, plain
from benchmark.records.store import Store
from benchmark.train.dense.configuration import optim_wrapper
from benchmark.train.dense.generators import own_generators
from benchmark.train.dense.mmengine_loop import DenseTraining
from benchmark.train.settings import Settings

WARM_UP = 1  # steps of each that are not counted


@dataclass(frozen=True)
class Ratio:
    """The step times of a method divided by those of its plain student, for pairs of consecutive steps."""

    label: str
    ratios: tuple[float, ...]

    @property
    def line(self) -> str:
        """Format the median ratio and its range for a terminal."""
        low, high = min(self.ratios), max(self.ratios)
        middle = statistics.median(self.ratios)
        return f"{self.label}: {middle:.2f} x the plain student's step ({low:.2f} to {high:.2f}, n {len(self.ratios)})"


class Stepping:
    """One run's training step, repeated on one batch."""

    def __init__(self, run: Run, settings: Settings) -> None:
        from mmengine.optim import build_optim_wrapper

        from benchmark.train.dense.feeding import training_loader

        self.training = DenseTraining(run, settings)
        own = self.training.task.configuration(run.experiment.student)
        wanted = optim_wrapper(own, self.training.recipe, run.experiment.precision)
        wanted["optimizer"]["lr"] = 0.0  # the same batch is trained again and again: the weights must not diverge
        self.training.model.train()
        self.optimizer = build_optim_wrapper(self.training.model, wanted)
        self.batch: object = next(iter(training_loader(self.training.data, self.training.order)))

    def seconds(self) -> float:
        """Return the seconds of one step, including the device's work."""
        self._wait()
        began = time.perf_counter()
        self.training.model.train_step(self.batch, self.optimizer)
        self._wait()
        return time.perf_counter() - began

    def _wait(self) -> None:
        if self.training.device.type == "cuda":
            torch.cuda.synchronize(self.training.device)


def measure(run: Run, settings: Settings, steps: int) -> Ratio:
    """Measure a run's method and its plain student. Steps alternate, so that other load slows both alike."""
    experiment = run.experiment
    student = Run(replace(experiment, method=plain(), teacher=None), run.repetition)
    with (
        openmmlab.scope(TASKS[experiment.task].openmmlab),
        own_generators(experiment.precision, torch.device(settings.device)),
    ):
        bare, taught = Stepping(student, settings), Stepping(run, settings)
        pairs = [(bare.seconds(), taught.seconds()) for _ in range(WARM_UP + steps)][WARM_UP:]
    return Ratio(experiment.label, tuple(method / without for without, method in pairs))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each experiment of a suite that has a teacher. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", help="table4, table5 or table6")
    parser.add_argument(
        "--only", action="append", default=[], help="only these rows, methods or pairs; * and ? match; may be repeated"
    )
    parser.add_argument("--profile", choices=("paper", "smoke"), default="smoke", help="(default: smoke)")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each (default: 5)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.add_argument("--data-dir", type=Path, help="folder of data sets (default: $BENCHMARK_DATA, then data/)")
    parser.add_argument("--runs-dir", type=Path, default=Store.runs, help="folder of weights (default: runs/)")
    asked = parser.parse_args(arguments)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    selection = Selection(asked.only, profile=asked.profile, all_rows=True, absent=finder.absent(asked.data_dir))
    plan = make_plan([load(suite_path(asked.suite))], selection)
    runs = [run for run in plan.runs if run.experiment.teacher is not None and run.experiment.recipe is not None]
    runs = [run for run in runs if TASKS[run.experiment.task].openmmlab and run.repetition == 0]
    if not runs:
        raise UsageError(
            f"no row of suite {asked.suite} trains detection or segmentation with a teacher",
            "name table4, table5 or table6; leave out --only",
        )
    settings = Settings(Store(runs=asked.runs_dir), pick_device(asked.device), data_dir=asked.data_dir)
    cpu, threads = provenance.hardware()["cpu"], torch.get_num_threads()
    print(f"{cpu}, {settings.device}, {threads} threads, profile {asked.profile}")
    for run in runs:
        try:
            print(measure(run, settings, asked.steps).line, flush=True)
        except CannotServe as reason:
            print(f"{run.experiment.label}: {reason.message}", flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
