"""Mean squared error between features, the baseline of the DiffKD paper (arXiv 2305.15712, Tables 2 and 7)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.attention import channel_attention, object_masks, spatial_attention
from methods.base import PRE_POOL, Batch, Losses, Method, Moment, Outputs, Pair, at_least_float32
from methods.maps import match_sizes
from methods.options import MethodOptions, option


class MSE(Method):
    """Mean squared error between a student tensor, projected, and the teacher's.

    `mean((P s - t)^2)` over all elements, where `P` is a learned 1x1 convolution, as in front of DiffKD's diffusion;
    summed over the roles that `tap` matches.

    With `attention` it is the attention-based error of DiffKD-dagger in Tables 4 and 5, as far as that is known: after
    FGD, squared differences are multiplied by the teacher's spatial and channel attention, `H W softmax(mean_c |t| /
    T)` and `C softmax(mean_hw |t| / T)`, both 1 on average. The paper has neither formula nor code: that there are no
    boxes in it (`objects` adds them), that both attentions are in it, T, and the mean over elements are our choices.
    """

    taps = (PRE_POOL,)

    class Options(MethodOptions):
        """Options of MSE."""

        tap: str = option(
            "pre_pool",
            "the role that is compared; a pattern such as `fpn.*` compares each role it matches",
            source="paper, section 4.1: the location of DiffKD's feature",
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
        attention: Literal["none", "spatial", "channel", "both"] = option(
            "none",
            "which of the teacher's attentions weight the error; DiffKD-dagger says `both` on detectors",
            source="paper, section 4.2: inspired by FGD, unstated beyond that",
        )
        temperature: float = option(0.5, "softens the attentions", source="FGD's code, and the paper's (10)", gt=0)
        objects: bool = option(
            False,
            "weight the positions of ground-truth boxes by FGD's masks (background half as much) before adding up",
            source="FGD: beta is half of alpha in every configuration; whether DiffKD-dagger does so is unstated",
        )

    options: Options

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self.taps = (self.options.tap,)

    def build(self, pair: Pair) -> None:
        """Build the projections, if this pair needs any."""
        if self.options.objects and pair.task != "detection":
            self.skip(f"`objects` needs ground-truth boxes, which {pair.task} has not")
        self.roles = self.shared_roles(pair, self.options.tap)
        self.projections = nn.ModuleList(self._projection(role, pair) for role in self.roles)

    def _projection(self, role: str, pair: Pair) -> nn.Module:
        student, teacher = pair.student_shapes[role], pair.teacher_shapes[role]
        if len(student) != len(teacher):
            self.skip(f"{role} is {student} in the student and {teacher} in the teacher")
        is_map = len(student) == 3
        if self._is_weighted and not is_map:
            self.skip(f"attention and objects are of maps, and {role} is {teacher}")
        if student[0] != teacher[0] or (is_map and self.options.projection == "maps"):
            return nn.Conv2d(student[0], teacher[0], 1) if is_map else nn.Linear(student[0], teacher[0])
        return nn.Identity()

    @property
    def _is_weighted(self) -> bool:
        return self.options.attention != "none" or self.options.objects

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return the loss as one term named `mse`, summed over roles."""
        errors = []
        for role, projection in zip(self.roles, self.projections, strict=True):
            ours, theirs = student[role], teacher[role]
            if ours.dim() == 4:
                ours, theirs = match_sizes(ours, theirs, self.options.resize)
            errors.append(self.distance(projection(ours), theirs, batch))
        return Losses({"mse": self.options.weight * (errors[0] if len(errors) == 1 else torch.stack(errors).sum())})

    def distance(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """Return the mean squared error of two tensors of one shape, weighted if the options say so."""
        if not self._is_weighted:
            return F.mse_loss(student, teacher)
        o = self.options
        student, teacher = (at_least_float32(x) for x in (student, teacher))
        error = (student - teacher).square()
        if o.attention in ("spatial", "both"):
            error = error * spatial_attention(teacher, o.temperature)
        if o.attention in ("channel", "both"):
            error = error * channel_attention(teacher, o.temperature)
        if not o.objects:
            return error.mean()
        foreground, background = object_masks(batch.boxes(), teacher)
        return (error * (foreground + background / 2)).sum(dim=(2, 3)).mean()
