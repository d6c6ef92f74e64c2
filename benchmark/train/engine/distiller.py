"""The student and the method's side networks as one module whose forward returns the losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from benchmark.models.taps import Adapter, Network
from methods.base import LOGITS, Batch, Method, Moment

TaskLoss = Callable[[Mapping[str, Tensor], Batch], Tensor]


@dataclass(frozen=True)
class StepLosses:
    """The result of one forward pass: the loss to minimise, every term by name, and the tracked quantities."""

    total: Tensor
    terms: Mapping[str, Tensor]
    tracked: Mapping[str, Tensor]


class Distiller(nn.Module):
    """Everything that is trained, as one module, so that data-parallel wrappers can wrap it."""

    def __init__(self, student: Network, method: Method, task_loss: TaskLoss) -> None:
        super().__init__()
        self.student = student
        self.method = method
        self.task_loss = task_loss

    def forward(self, batch: Batch, teacher: Mapping[str, Tensor], moment: Moment) -> StepLosses:
        """Return all losses of one batch, given the teacher's outputs by role."""
        outputs = self.student(batch.inputs)
        task = self.task_loss(outputs, batch)
        losses = self.method.losses(outputs, teacher, batch, moment)
        total = task * losses.task_weight
        for term in losses.terms.values():
            total = total + term
        return StepLosses(total, {"task": task, **losses.terms}, losses.tracked)


def student_roles(method: Method) -> tuple[str, ...]:
    """Return the roles that a student must expose: the method's, and the logits for the task loss."""
    return tuple(dict.fromkeys((*method.taps, LOGITS)))


def trained_student(wrapped: nn.Module, adapter: Adapter, method: Method) -> Network:
    """Return the network that `wrap_student` made, with the roles of its family and those that the method added."""
    added = {role: found.tap for role, found in method.added_roles().items()}
    return Network(wrapped, replace(adapter, taps={**adapter.taps, **added}), (*student_roles(method), *added))
