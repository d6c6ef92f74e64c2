"""The train loop that MMEngine's Runner runs: steps, evaluations, checkpoints, and stopping between any two steps."""

from __future__ import annotations

from typing import Any, Protocol

from mmengine.hooks import Hook
from mmengine.runner import BaseLoop

from benchmark.models import openmmlab
from benchmark.train.dense.feeding import StepOrder


class Supervisor(Protocol):
    """A supervisor of a run: `Passes` calls it at each step and evaluation."""

    def resume(self) -> int:
        """Load a checkpoint's state into the runner, and return the number of steps done."""

    def before_step(self, step: int) -> None:
        """Prepare for a step that is about to happen."""

    def after_step(self, step: int) -> None:
        """React to a finished step; `step` counts the steps done. May save, and may raise to end the run."""

    def before_evaluation(self, step: int) -> None:
        """Check the student, which is about to be evaluated after `step` steps. May raise to end the run."""

    def after_evaluation(self, step: int, found: dict[str, float]) -> None:
        """Take the metrics found after `step` steps."""


class Restore(Hook):  # type: ignore[misc]
    """A hook that restores a run after optimiser and schedules are built and before anything has counted steps."""

    def before_run(self, runner: Any) -> None:
        """Restore the run if this runner trains. Other runners have nothing to restore."""
        if isinstance(runner.train_loop, Passes):
            runner.train_loop.restore()


class Passes(BaseLoop):  # type: ignore[misc]
    """The loop over epochs up to a number of steps, evaluating at a fixed interval. It can resume inside an epoch.

    MMEngine's own loops resume at the beginning of an epoch only, or read all the data again up to the step reached.
    """

    def __init__(
        self, runner: Any, dataloader: Any, order: StepOrder, steps: int, evaluate_every: int, supervisor: Supervisor
    ) -> None:
        super().__init__(runner, dataloader)
        self.order, self.supervisor = order, supervisor
        self._max_iters, self._every = steps, evaluate_every
        self._iter = 0

    @property
    def max_iters(self) -> int:
        """Return the number of optimiser steps of the whole training."""
        return self._max_iters

    @property
    def iter(self) -> int:
        """Return the number of optimiser steps done."""
        return self._iter

    @property
    def max_epochs(self) -> int:
        """Return the number of passes over the data, of which the last may be shorter."""
        return -(-self._max_iters // len(self.order))

    @property
    def epoch(self) -> int:
        """Return the number of whole passes done."""
        return self._iter // len(self.order)

    def restore(self) -> None:
        """Resume from the supervisor's checkpoint."""
        self._iter = self.supervisor.resume()

    def run(self) -> Any:
        """Train to the end, and return the model."""
        self.runner.call_hook("before_train")
        while self._iter < self._max_iters:
            self._epoch()
        self.runner.call_hook("after_train")
        return self.runner.model

    def _epoch(self) -> None:
        self.order.seek(self._iter)
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        for batch in self.dataloader:
            self._one(batch)
            ended = self._iter % len(self.order) == 0
            if ended:
                self.runner.call_hook("after_train_epoch")  # schedules in epochs, before the evaluation as in MMEngine
            if self._iter % self._every == 0 or self._iter == self._max_iters:
                self._evaluate()
            self.supervisor.after_step(self._iter)
            if self._iter == self._max_iters:
                return

    def _one(self, batch: Any) -> None:
        self.supervisor.before_step(self._iter)
        place = {"batch_idx": self._iter % len(self.order), "data_batch": batch}
        self.runner.call_hook("before_train_iter", **place)
        outputs = self.runner.model.train_step(batch, optim_wrapper=self.runner.optim_wrapper)
        self.runner.call_hook("after_train_iter", **place, outputs=outputs)
        self._iter += 1

    def _evaluate(self) -> None:
        self.supervisor.before_evaluation(self._iter)
        with openmmlab.quiet():
            found: dict[str, float] = self.runner.val_loop.run()
        self.runner.model.train()
        self.supervisor.after_evaluation(self._iter, found)
