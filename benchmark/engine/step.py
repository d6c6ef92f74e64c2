"""One training step: teacher, student, losses, backward, update. Nothing in it makes the host wait for the device."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from benchmark.engine import precision
from benchmark.engine.assembly import Assembly
from benchmark.engine.compiled import TOLERANCES, Compiled
from benchmark.engine.distiller import Step
from benchmark.engine.meter import Meter
from benchmark.engine.optimizer import set_learning_rate
from benchmark.engine.schedule import learning_rate
from benchmark.recipe import Recipe
from methods.base import Batch


class Stepper:
    """Makes the steps of one run."""

    def __init__(self, parts: Assembly, recipe: Recipe, precision: str, device: torch.device) -> None:
        self.parts = parts
        self.recipe = recipe
        self.precision = precision
        self.device = device
        self.compiled: Compiled | None = None

    def step(self, batch: Batch, epochs_done: float, meter: Meter, number: int) -> None:
        """One batch. `epochs_done` is fractional, `number` counts steps from the start of the run."""
        self.set_moment(epochs_done, meter, number)
        self.update(batch, meter)

    def set_moment(self, epochs_done: float, meter: Meter, number: int) -> None:
        """Say when the next update happens: everything about it that the host knows."""
        moment = self.parts.moment
        set_learning_rate(self.parts.optimizer, learning_rate(self.recipe, epochs_done))
        moment.epoch.fill_(int(epochs_done))
        moment.progress.fill_(epochs_done / self.recipe.epochs)
        meter.number.fill_(number)

    def update(self, batch: Batch, meter: Meter) -> None:
        """Losses, gradients and the new weights, from tensors on the device alone: this can be captured."""
        parts = self.parts
        found = self._forward(batch)
        parts.optimizer.zero_grad(set_to_none=True)
        parts.scaler.scale(found.total).backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip_grad is not None:
            parts.scaler.unscale_(parts.optimizer)
            torch.nn.utils.clip_grad_norm_(parts.distiller.parameters(), self.recipe.clip_grad)
        parts.scaler.step(parts.optimizer)
        parts.scaler.update()
        meter.add({**found.terms, "total": found.total}, found.tracked)

    @property
    def kind(self) -> str:
        """How steps are made."""
        return "eager" if self.compiled is None else "compiled"

    def compile(self, batch: Batch, cache: Path) -> float:
        """From now on, full batches such as this one go through compiled passes; the seconds it took.

        Raises:
            NotCompiled: it cannot be done here, and why; the step stays eager.
        """
        compiled = Compiled(self.parts, cache)
        context = partial(precision.autocast, self.precision, self.device)
        seconds = compiled.prepare(batch, TOLERANCES[self.precision], context)
        self.compiled = compiled
        return seconds

    def _forward(self, batch: Batch) -> Step:
        parts = self.parts
        with precision.autocast(self.precision, self.device):
            if self.compiled is not None:
                return self.compiled.losses(batch, self.compiled.teach(batch.inputs), parts.moment)
            seen = {}
            if parts.frozen is not None:
                with torch.no_grad():
                    seen = parts.frozen(batch.inputs)
            found: Step = parts.distiller(batch, seen, parts.moment)
            return found
