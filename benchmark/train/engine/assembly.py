"""The parts of one run's steps: networks, method, optimiser, shards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.models.taps import Network
from benchmark.train.engine.average import MovingAverage
from benchmark.train.engine.distiller import Distiller
from benchmark.train.engine.shards import Shards
from benchmark.train.engine.teacher import Teacher
from benchmark.train.first_use import WeightFiles
from methods.base import Moment


@dataclass
class Assembly:
    """One run's networks, method and optimiser."""

    distiller: Distiller  # the student and the method's side networks
    frozen: Network | None  # the teacher as it runs beside the student
    teacher: Teacher | None
    teacher_metrics: dict[str, float]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    moment: Moment
    trained: nn.Module  # the distiller, or what exchanges its gradients with other ranks
    shards: Shards
    average: MovingAverage | None  # of the student's weights, where the recipe asks for one
    not_in_student: tuple[str, ...]  # settings of the recipe that the student has no layer for
    files: WeightFiles  # of weights that were given

    def taught(self, inputs: Tensor) -> Mapping[str, Tensor]:
        """Return the teacher's outputs by role, none without a teacher."""
        if self.frozen is None:
            return {}
        with torch.no_grad():
            seen: Mapping[str, Tensor] = self.frozen(inputs)
            return seen

    @contextlib.contextmanager
    def undone(self) -> Iterator[None]:
        """Restore what a pass changes: buffers and the state of the run's generator."""
        drawn = self.moment.generator.get_state()
        kept = {name: buffer.clone() for name, buffer in self.distiller.named_buffers()}
        try:
            yield
        finally:
            self.moment.generator.set_state(drawn)
            with torch.no_grad():
                for name, buffer in self.distiller.named_buffers():
                    buffer.copy_(kept[name])
