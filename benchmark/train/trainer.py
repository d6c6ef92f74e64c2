"""The interface of a task to the program: how its runs are trained and how given weights are evaluated."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

from benchmark.plan.experiment import Run
from benchmark.records.store import Record
from benchmark.train.settings import Settings


class TaskTrainer(Protocol):
    """The trainer of one task. The module `benchmark.train.<folder>.trainer` provides a subclass as `Trainer`.

    One trainer serves all runs of its task, one or several in turns, so it may keep data that they share.
    """

    def __init__(self, settings: Settings) -> None:
        """Create a trainer that runs with these settings."""

    def train(self, run: Run) -> Generator[None, None, Record]:
        """Train a run from its first step or its checkpoint. Yield where another run may take its turn.

        Return the record.

        Raises:
            CannotServe: the method cannot serve this pair.
            Stopped: asked to stop, the checkpoint is written.
        """

    def evaluate(self, run: Run) -> Record:
        """Evaluate a run's given weights, without training, and return the record."""

    def close(self) -> None:
        """Release what is kept for the next run."""


def record_from(steps: Generator[None, None, Record]) -> Record:
    """Return the record that a training ends with, after all of its steps."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            record: Record = end.value
            return record
