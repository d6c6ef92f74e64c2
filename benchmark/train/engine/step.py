"""One training step: teacher, student, losses, backward, update. Nothing in it makes the host wait for the device."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from benchmark.paper.recipe import Recipe
from benchmark.train import precision
from benchmark.train.engine.assembly import Assembly
from benchmark.train.engine.compiled import TOLERANCES, Compiled, NotCompiled
from benchmark.train.engine.distiller import StepLosses
from benchmark.train.engine.optimizer import set_learning_rate
from benchmark.train.engine.schedule import learning_rate
from benchmark.train.meter import Meter
from methods.base import Batch


class Stepper:
    """The maker of the training steps of one run."""

    def __init__(self, parts: Assembly, recipe: Recipe, precision: str, device: torch.device) -> None:
        self.parts = parts
        self.recipe = recipe
        self.precision = precision
        self.device = device
        self.compiled: Compiled | None = None

    def step(self, batch: Batch, epochs_done: float, meter: Meter, number: int) -> None:
        """Train one step on a batch. `epochs_done` is fractional; `number` counts steps from the start of the run."""
        self.set_moment(epochs_done, meter, number)
        self.update(batch, meter, number)

    def set_moment(self, epochs_done: float, meter: Meter, number: int) -> None:
        """Set everything that the host knows about the next update: learning rate, epoch, progress and step number."""
        moment = self.parts.moment
        set_learning_rate(self.parts.optimizer, learning_rate(self.recipe, epochs_done))
        moment.epoch.fill_(int(epochs_done))
        moment.progress.fill_(epochs_done / self.recipe.epochs)
        if moment.step is not None:
            moment.step.fill_(number)
        meter.number.fill_(number)

    def update(self, batch: Batch, meter: Meter, number: int = 0) -> None:
        """Compute losses, gradients and the new weights, from tensors on the device.

        This can be captured where the host has no work around shards. `number` seeds what shards draw.
        """
        parts = self.parts
        parts.optimizer.zero_grad(set_to_none=True)
        for index, shard in enumerate(parts.shards.cut(batch)):
            with parts.shards.around(parts.trained, index, number):
                self._accumulate(shard, meter)
        if self.recipe.clip_grad is not None:
            parts.scaler.unscale_(parts.optimizer)
            norm = torch.nn.utils.clip_grad_norm_(parts.distiller.parameters(), self.recipe.clip_grad)
            meter.add_clip(norm > self.recipe.clip_grad)
        parts.scaler.step(parts.optimizer)
        parts.scaler.update()
        if parts.average is not None:
            parts.average.update(parts.distiller.student)

    def _accumulate(self, shard: Batch, meter: Meter) -> None:
        """Add one shard's gradients, and its losses to the meter."""
        parts = self.parts
        found = self._forward(shard)
        total = found.total if parts.shards.count == 1 else found.total / parts.shards.count
        parts.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        meter.add({**found.terms, "total": found.total}, found.tracked)

    @property
    def kind(self) -> str:
        """Return `eager` or `compiled`: how steps are computed."""
        return "eager" if self.compiled is None else "compiled"

    def compile(self, batch: Batch, cache: Path) -> float:
        """Compile the passes for full batches like this one, and return the seconds that it took.

        Raises:
            NotCompiled: it cannot be done here, and why; the step stays eager.
        """
        if self.parts.shards.total > 1:
            raise NotCompiled("a batch is cut into shards, which run eagerly")
        compiled = Compiled(self.parts, cache)
        context = partial(precision.autocast, self.precision, self.device)
        seconds = compiled.prepare(batch, TOLERANCES[self.precision], context)
        self.compiled = compiled
        return seconds

    def _forward(self, batch: Batch) -> StepLosses:
        parts = self.parts
        with precision.autocast(self.precision, self.device):
            if self.compiled is not None:
                return self.compiled.losses(batch, self.compiled.teach(batch.inputs), parts.moment)
            found: StepLosses = parts.trained(batch, parts.taught(batch.inputs), parts.moment)
            return found
