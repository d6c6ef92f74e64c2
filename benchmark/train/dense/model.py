"""Student, side networks and teacher as the model that MMEngine's Runner trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor

from benchmark.machine.streams import seed_of
from benchmark.models.taps import Network
from benchmark.train.dense.dense_task import DenseTask
from benchmark.train.dense.feeding import pieces
from benchmark.train.dense.generators import seeded_globals
from benchmark.train.engine import telemetry
from benchmark.train.meter import Meter
from methods.base import Method, Moment


class Distilling(BaseModel):  # type: ignore[misc]
    """The model that is trained. Its parameters are the student's and the side networks', never the teacher's.

    A step sees its batch in parts of what one device of the published setting saw: batch norms of side networks and
    the losses' own averages are then the published ones, on any number of devices.
    """

    def __init__(
        self,
        student: Network,
        method: Method,
        teacher: Network | None,
        task: DenseTask,
        moment: Moment,
        meter: Meter,
        repetition: int,
        per_device: int,
    ) -> None:
        super().__init__(data_preprocessor=student.network.data_preprocessor)
        self.student = student
        self.method = method
        # A tuple hides it: what is registered would be trained, saved and exported.
        self._teacher = (teacher,)
        self.task, self.moment, self.meter = task, moment, meter
        self.repetition, self.per_device = repetition, per_device
        self.step = 0  # optimiser steps done
        self.sampling = False  # whether the next step is the one before an evaluation
        self.telemetry: dict[str, float] = {}  # of the latest such step

    @property
    def teacher(self) -> Network | None:
        """Return the frozen teacher, or None if the method has none."""
        return self._teacher[0]

    def init_weights(self) -> None:
        """Do nothing: weights stay as they were built from the run's own stream."""

    def train(self, mode: bool = True) -> Distilling:
        """Switch to training or evaluation mode. The teacher does not change."""
        super().train(mode)
        return self

    def train_step(self, data: dict[str, Any], optim_wrapper: Any) -> dict[str, Tensor]:
        """Train one optimiser step on a collated batch. Its losses go to the meter."""
        parts = list(pieces(data, self.per_device))
        # Detectors draw their samples of proposals from the global generators, segmentors their dropout.
        with seeded_globals(seed_of("sampling", self.repetition, self.step)):
            for part in parts:
                with optim_wrapper.optim_context(self):
                    found = self._run_forward(self.data_preprocessor(part, True), mode="loss")
                if self.sampling:
                    self.telemetry = self._sampled(found, optim_wrapper)
                    self.sampling = False  # the first part alone
                optim_wrapper.backward(found["loss"] / len(parts))
        optim_wrapper.step()
        if limits := optim_wrapper.clip_grad_kwargs:
            norm = optim_wrapper.message_hub.get_scalar(f"train/{optim_wrapper.grad_name}").current()
            self.meter.add_clip(torch.tensor(norm > limits["max_norm"]))
        optim_wrapper.zero_grad()
        self.step += 1
        return {}

    def forward(self, inputs: Tensor, data_samples: Sequence[Any], mode: str = "tensor") -> Any:
        """Return all losses of normalised images B,3,H,W (`loss`), or the student's predictions (`predict`)."""
        network: Any = self.student.network
        if mode == "predict":
            return network.predict(inputs, data_samples)
        if mode != "loss":
            raise NotImplementedError(f"mode {mode!r}: the student itself answers it")
        return self._losses(inputs, data_samples)

    def _sampled(self, found: Mapping[str, Any], optim_wrapper: Any) -> dict[str, float]:
        """Return the telemetry of a part whose graph is still there."""
        scaler = getattr(optim_wrapper, "loss_scaler", None)  # of half precision only
        own = telemetry.gradients(found["terms"], self.student, scaler)
        return own | telemetry.norms(self.student, self.method) | telemetry.spreads(found["taught"])

    def _losses(self, inputs: Tensor, samples: Sequence[Any]) -> dict[str, Any]:
        """Return the total as `loss`, the task's and the method's terms, and the teacher's tensors."""
        network: Any = self.student.network
        raw, seen = self.student.observed(lambda: network.loss(inputs, samples))
        own = _scalars(raw)
        task = sum((value for name, value in own.items() if "loss" in name), torch.zeros((), device=inputs.device))
        terms: Mapping[str, Tensor] = {}
        taught: Mapping[str, Tensor] = {}
        tracked = {f"task.{name}": value.detach() for name, value in own.items()}
        total = task
        if self.teacher is not None:
            with torch.no_grad():
                taught = self.task.teach(self.teacher, inputs, seen)
            found = self.method.losses(seen, taught, self.task.batch(inputs, samples), self.moment)
            terms, tracked = found.terms, tracked | dict(found.tracked)
            total = sum(terms.values(), task * found.task_weight)
        self.meter.number.fill_(self.step)
        terms = {"task": task, **terms}
        self.meter.add({**terms, "total": total}, tracked)
        return {"loss": total, "terms": terms, "taught": taught}


def _scalars(losses: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return each loss as one scalar; some of mm's networks give a list with one value for each level."""
    found = {}
    for name, value in losses.items():
        parts = value if isinstance(value, list | tuple) else [value]
        found[name] = torch.stack([part.mean() for part in parts]).sum()
    return found
