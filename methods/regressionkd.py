"""Regression distillation: a detector's box regressions against its teacher's, as beside DiffKD and MasKD."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.base import Batch, Losses, Method, Moment, Outputs, Pair, at_least_float32
from methods.options import MethodOptions, option


class RegressionKD(Method):
    """Regression distillation: the student's box regressions imitate the teacher's, position by position.

    `weight * mean(d(s - t))` over all elements, summed over the roles that `tap` matches, where `d` is the absolute or
    the smooth L1 error. The DiffKD paper adds such a loss with weight 1 on detectors (appendix B.3) and does not say
    which. The nearest source is MasKD, by the same first author: smooth L1 on the outputs of the RoI head's last
    layer, for proposals that both networks share, in two-stage detectors; L1 in RetinaNet (smooth L1 with an X101
    teacher); none in FCOS; smooth L1 with beta 0.11 and weight 0.2 in RepPoints.

    A RoI head that regresses one box for all classes (Cascade R-CNN) teaches each class of one that regresses a box
    for each: our choice. MasKD gives the student a head like its teacher's (`faster_rcnn_r50_fpn_agnostic`).
    """

    taps: tuple[str, ...] = ("bbox_preds.[0-9]",)

    class Options(MethodOptions):
        """Options of regression distillation."""

        tap: str = option(
            "bbox_preds.[0-9]",
            "box regressions of both networks; `roi.bbox_preds` in two-stage detectors",
            source="MasKD's configurations",
        )
        weight: float = option(1.0, "of the error", source="paper, appendix B.3; MasKD has 0.2 in RepPoints", ge=0)
        error: Literal["smooth-l1", "l1"] = option(
            "smooth-l1", "how differences count", source="MasKD's configurations"
        )
        beta: float = option(
            1.0, "below it smooth L1 is quadratic", source="MasKD's configurations; 0.11 in RepPoints", gt=0
        )

    options: Options

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self.taps = (self.options.tap,)

    def build(self, pair: Pair) -> None:
        """Check that the regressions can be compared. There is nothing to train."""
        self.roles = self.shared_roles(pair, self.options.tap)
        for role in self.roles:
            student, teacher = pair.student_shapes[role], pair.teacher_shapes[role]
            shares_boxes = len(student) == 1 and teacher == (4,) and student[0] % 4 == 0
            if student != teacher and not shares_boxes:
                self.skip(f"{role} is {student} in the student and {teacher} in the teacher")

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return the loss as one term named `regression`."""
        errors = [self._error(student[role], teacher[role]) for role in self.roles]
        return Losses({"regression": self.options.weight * torch.stack(errors).sum()})

    def _error(self, student: Tensor, teacher: Tensor) -> Tensor:
        student, teacher = (at_least_float32(x) for x in (student, teacher))
        if student.shape != teacher.shape:  # R,4*classes and R,4
            teacher = teacher.repeat(1, student.shape[1] // teacher.shape[1])
        if self.options.error == "l1":
            return F.l1_loss(student, teacher)
        return F.smooth_l1_loss(student, teacher, beta=self.options.beta)
