"""The train loop that MMEngine's Runner runs: steps, evaluations, checkpoints, and stopping between any two steps."""

from __future__ import annotations

from typing import Any, Protocol

from mmengine.hooks import Hook
from mmengine.runner import BaseLoop

from benchmark.dense import stack
from benchmark.dense.feeding import Order


class Supervisor(Protocol):
    """Who keeps the books of a run: what `Passes` tells, and when."""

    def restore(self, runner: Any) -> int:
        """Put a checkpoint's state into the runner; the number of steps done."""

    def before_step(self, step: int) -> None:
        """A step is about to happen."""

    def after_step(self, runner: Any, step: int) -> None:
        """So many steps are done. May save, and may raise to end the run."""

    def before_evaluation(self, step: int) -> None:
        """The student is about to be evaluated after so many steps. May raise to end the run."""

    def after_evaluation(self, runner: Any, step: int, found: dict[str, float]) -> None:
        """The metrics after so many steps."""


class Restore(Hook):  # type: ignore[misc]
    """Restores at the moment when optimiser and schedules are built and nothing has counted steps yet."""

    def before_run(self, runner: Any) -> None:
        """Only a training has something to restore."""
        if isinstance(runner.train_loop, Passes):
            runner.train_loop.restore()


class Passes(BaseLoop):  # type: ignore[misc]
    """Epoch after epoch to a number of steps, evaluating at a fixed number of steps; goes on inside an epoch.

    MMEngine's own loops go on at the beginning of an epoch only, or read all the data again up to where they were.
    """

    def __init__(
        self, runner: Any, dataloader: Any, order: Order, steps: int, evaluate_every: int, supervisor: Supervisor
    ) -> None:
        super().__init__(runner, dataloader)
        self.order, self.supervisor = order, supervisor
        self._max_iters, self._every = steps, evaluate_every
        self._iter = 0

    @property
    def max_iters(self) -> int:
        """Optimiser steps of the whole training."""
        return self._max_iters

    @property
    def iter(self) -> int:
        """Optimiser steps done."""
        return self._iter

    @property
    def max_epochs(self) -> int:
        """Passes over the data, the last one perhaps cut short."""
        return -(-self._max_iters // len(self.order))

    @property
    def epoch(self) -> int:
        """Whole passes done."""
        return self._iter // len(self.order)

    def restore(self) -> None:
        """Go on from the supervisor's checkpoint."""
        self._iter = self.supervisor.restore(self.runner)

    def run(self) -> Any:
        """Train to the end."""
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
            self.supervisor.after_step(self.runner, self._iter)
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
        with stack.quiet():
            found: dict[str, float] = self.runner.val_loop.run()
        self.runner.model.train()
        self.supervisor.after_evaluation(self.runner, self._iter, found)
