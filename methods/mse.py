"""Mean squared error between features, the baseline of the DiffKD paper (arXiv 2305.15712, Tables 2 and 7)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import PRE_POOL, Batch, Losses, Method, Moment, Outputs, Pair
from methods.maps import match_sizes
from methods.options import MethodOptions, option


class MSE(Method):
    """Mean squared error between a student tensor, projected, and the teacher's.

    `mean((P s - t)^2)` over all elements, where `P` is a learned 1x1 convolution, as in front of DiffKD's diffusion.
    """

    taps = (PRE_POOL,)

    class Options(MethodOptions):
        """Options of MSE."""

        tap: str = option(
            "pre_pool", "the role that is compared", source="paper, section 4.1: the location of DiffKD's feature"
        )
        weight: float = option(1.0, "of the error", source="paper, Table 2: not stated, so left at 1", ge=0)
        projection: Literal["maps", "unequal"] = option(
            "maps",
            "student tensors that are projected: all maps (and vectors of another width), or what differs in width",
            source="paper, section 4.1: DiffKD, which always projects, only adds the diffusion model",
        )
        resize: Literal["pool", "interpolate"] = option(
            "pool", "maps of unequal size: pool the larger, or interpolate the student's", source="stated nowhere"
        )

    options: Options

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self.taps = (self.options.tap,)
        self.projection: nn.Module = nn.Identity()

    def build(self, pair: Pair) -> None:
        """The projection, where this pair has one."""
        student, teacher = pair.student_shapes[self.options.tap], pair.teacher_shapes[self.options.tap]
        if len(student) != len(teacher):
            self.skip(f"{self.options.tap} is {student} in the student and {teacher} in the teacher")
        is_map = len(student) == 3
        if student[0] != teacher[0] or (is_map and self.options.projection == "maps"):
            self.projection = nn.Conv2d(student[0], teacher[0], 1) if is_map else nn.Linear(student[0], teacher[0])

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """One term, `mse`."""
        ours, theirs = student[self.options.tap], teacher[self.options.tap]
        if ours.dim() == 4:
            ours, theirs = match_sizes(ours, theirs, self.options.resize)
        return Losses({"mse": self.options.weight * self.distance(self.projection(ours), theirs, batch)})

    def distance(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """Mean squared error of two tensors of one shape."""
        return F.mse_loss(student, teacher)
