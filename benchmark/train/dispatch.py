"""One run of any task, from its experiment to its record: what holds for every task, then the task's own trainer."""

from __future__ import annotations

import math
from collections.abc import Generator
from importlib import import_module

from benchmark.errors import CannotServe
from benchmark.paper.datasets import layout_of
from benchmark.paper.tasks import TASKS
from benchmark.plan.experiment import Run
from benchmark.records.store import Record
from benchmark.train import honouring
from benchmark.train.outcome import skipped
from benchmark.train.settings import Settings
from benchmark.train.trainer import TaskTrainer


class Dispatcher:
    """Hands each run to the trainer of its task. Trainers, and the data that they keep, stay until it is closed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._trainers: dict[str, TaskTrainer] = {}  # by task

    def steps(self, run: Run) -> Generator[None, None, Record]:
        """Train or evaluate a run, handing control back after each step. Return the record.

        Raises:
            Stopped: asked to stop, the checkpoint is written.
        """
        for words, why in honouring.require(run.experiment).items():
            self.settings.say(f"NOTE: {run.label}: {words} is ignored: {why}")
        trainer = self._trainer(run.experiment.task)
        try:
            if run.experiment.recipe is None:
                return trainer.evaluate(run)
            return (yield from trainer.train(run))
        except CannotServe as reason:
            return skipped(run, reason, self.settings)

    def close(self) -> None:
        """Release the data."""
        for trainer in self._trainers.values():
            trainer.close()

    def _trainer(self, task: str) -> TaskTrainer:
        if task not in self._trainers:
            module = import_module(f"benchmark.train.{TASKS[task].folder}.trainer")
            self._trainers[task] = module.Trainer(self.settings)
        return self._trainers[task]


def from_files(run: Run) -> bool:
    """Return True if worker processes decode the images of a run: it does not take turns with others."""
    return layout_of(run.experiment.data.name) != "memory"


def summary(run: Run, record: Record) -> str:
    """Return one line on a finished run."""
    if record.status != "done":
        return f"{run.label}: {record.status}: {record.reason}"
    task = TASKS[run.experiment.task]
    last, best = (values.get(task.metric, math.nan) for values in (record.last, record.best))
    pace = f"{record.images_per_second:,.4g} images/s" if record.images_per_second else "evaluated"
    return f"{run.label}: {task.metric_title} {last:.2f} (best {best:.2f}) in {record.seconds:.0f} s, {pace}"
