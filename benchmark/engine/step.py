"""One training step: teacher, student, losses, backward, update. Nothing in it makes the host wait for the device."""

from __future__ import annotations

import torch

from benchmark.engine import precision
from benchmark.engine.assembly import Assembly
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

    def step(self, batch: Batch, epochs_done: float, meter: Meter, number: int) -> None:
        """One batch. `epochs_done` is fractional, `number` counts steps from the start of the run."""
        parts, moment = self.parts, self.parts.moment
        set_learning_rate(parts.optimizer, learning_rate(self.recipe, epochs_done))
        moment.epoch.fill_(int(epochs_done))
        moment.progress.fill_(epochs_done / self.recipe.epochs)
        parts.optimizer.zero_grad(set_to_none=True)
        for index, shard in enumerate(parts.shards.cut(batch)):
            with parts.shards.around(parts.trained, index, number):
                self._accumulate(shard, meter, number)
        if self.recipe.clip_grad is not None:
            parts.scaler.unscale_(parts.optimizer)
            torch.nn.utils.clip_grad_norm_(parts.distiller.parameters(), self.recipe.clip_grad)
        parts.scaler.step(parts.optimizer)
        parts.scaler.update()
        if parts.average is not None:
            parts.average.update(parts.distiller.student)

    def _accumulate(self, shard: Batch, meter: Meter, number: int) -> None:
        """Add one shard's gradients."""
        parts = self.parts
        with precision.autocast(self.precision, self.device):
            seen = {}
            if parts.frozen is not None:
                with torch.no_grad():
                    seen = parts.frozen(shard.inputs)
            found = parts.trained(shard, seen, parts.moment)
        total = found.total if parts.shards.count == 1 else found.total / parts.shards.count
        parts.scaler.scale(total).backward()
        meter.add({**found.terms, "total": found.total}, found.tracked, number)
