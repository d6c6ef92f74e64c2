"""Training without a teacher, the student baseline of every table."""

from __future__ import annotations

from methods.base import Batch, Losses, Method, Moment, Outputs


class Plain(Method):
    """No distillation: the student alone, on the task loss."""

    name = "none"
    taps = ()

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return no terms."""
        return Losses({})
