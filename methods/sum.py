"""A sum of methods is a method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from benchmark.errors import UsageError
from methods import base
from methods.base import AddedRole, Batch, Losses, Moment, Outputs, Pair


class SumOfMethods(base.Method):
    """The sum of several methods' terms, each under its method's name.

    One part at most may change the task loss's weight.
    """

    def __init__(self, parts: Sequence[base.Method]) -> None:
        super().__init__()
        # By the names that manifests use, which `methods.registry` reads in the same way.
        self.parts = nn.ModuleDict({getattr(part, "name", type(part).__name__.lower()): part for part in parts})
        if len(self.parts) < len(parts):
            raise UsageError("a sum names one method twice", "give each method once, with the weight it should have")
        self.capturable = all(part.capturable for part in parts)
        self.teacher_in_train_mode = any(part.teacher_in_train_mode for part in parts)
        self._bind()

    def _each(self) -> list[tuple[str, base.Method]]:
        return [(name, part) for name, part in self.parts.items() if isinstance(part, base.Method)]

    def _bind(self) -> None:
        self.taps = tuple(dict.fromkeys(tap for _, part in self._each() for tap in part.taps))

    def build(self, pair: Pair) -> None:
        """Build every part."""
        for _, part in self._each():
            part.build(pair)
        self._bind()

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return all terms, named `method.term`."""
        found = {name: part.losses(student, teacher, batch, moment) for name, part in self._each()}
        weights = [(name, losses.task_weight) for name, losses in found.items() if losses.task_weight != 1.0]
        if len(weights) > 1:
            raise UsageError(
                f"{' and '.join(name for name, _ in weights)} both change the weight of the task loss",
                "set one of them to leave it at 1",
            )
        return Losses(
            {f"{name}.{term}": value for name, losses in found.items() for term, value in losses.terms.items()},
            {f"{name}.{key}": value for name, losses in found.items() for key, value in losses.tracked.items()},
            weights[0][1] if weights else 1.0,
        )

    def trainable_modules(self) -> Iterable[nn.Module]:
        """Return the trainable modules of all parts."""
        return [module for _, part in self._each() for module in part.trainable_modules()]

    def wrap_student(self, student: nn.Module) -> nn.Module:
        """Wrap the student by each part in turn."""
        for _, part in self._each():
            student = part.wrap_student(student)
        return student

    def added_roles(self) -> Mapping[str, AddedRole]:
        """Return the added roles of all parts."""
        return {role: added for _, part in self._each() for role, added in part.added_roles().items()}

    def merge(self, student: nn.Module) -> nn.Module:
        """Unwrap the student by each part in the opposite order."""
        for _, part in reversed(self._each()):
            student = part.merge(student)
        return student
