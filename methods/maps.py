"""Feature maps of unequal height and width, brought to one size in the same way for every method."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

Resize = Literal["pool", "interpolate"]  # spelled out in Options, which are read without this file


def match_sizes(student: Tensor, teacher: Tensor, how: Resize) -> tuple[Tensor, Tensor]:
    """Bring two maps B,C,H,W to one H x W.

    `pool` averages the larger map down, as AT and VID do; `interpolate` resizes the student's, bilinearly. The paper
    states neither, though three of Table 9's six pairs need one of them.
    """
    if student.shape[-2:] == teacher.shape[-2:]:
        return student, teacher
    if how == "interpolate":
        return F.interpolate(student, size=teacher.shape[-2:], mode="bilinear", align_corners=False), teacher
    size = (min(student.shape[-2], teacher.shape[-2]), min(student.shape[-1], teacher.shape[-1]))
    return F.adaptive_avg_pool2d(student, size), F.adaptive_avg_pool2d(teacher, size)


def pixel_cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of scores B,C,h,w, upsampled with aligned corners to labels B,H,W.

    Labels that are no class are ignored.
    """
    known = (labels >= 0) & (labels < scores.shape[1])
    full = F.interpolate(scores, labels.shape[-2:], mode="bilinear", align_corners=True)
    losses = F.cross_entropy(full, labels.masked_fill(~known, -1), ignore_index=-1, reduction="sum")
    return losses / known.sum().clamp(min=1)
