"""Knowledge distillation (Hinton et al., 2015, arXiv 1503.02531)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.models.taps import resolve_roles
from methods.base import LOGITS, Batch, Losses, Method, Moment, Outputs
from methods.options import MethodOptions, option


class KD(Method):
    """Knowledge distillation: match softened class probabilities.

    `T^2 KL(softmax(t/T) || softmax(s/T))`, mean over the batch, beside `task_weight` times cross-entropy; summed over
    the roles that `tap` matches.

    The class scores of a dense detector are independent yes-or-no scores, for each anchor: `sigmoid` compares each
    with the teacher's, `T^2 KL` of two Bernoulli distributions, mean over all of them.
    """

    taps: tuple[str, ...] = (LOGITS,)

    class Options(MethodOptions):
        """Options of KD."""

        temperature: float = option(4.0, "softens both distributions", source="RepDistiller, CIFAR-100", gt=0)
        weight: float = option(0.9, "of the distillation term", source="RepDistiller: alpha 0.9", ge=0)
        task_weight: float = option(0.1, "of the cross-entropy", source="RepDistiller: gamma 0.1", ge=0)
        tap: str = option(
            "logits", "the class scores of both networks; `cls_scores.*` in dense detectors", source="KD's paper"
        )
        scores: Literal["softmax", "sigmoid"] = option(
            "softmax",
            "what the class scores become: one choice of many, or many choices of two",
            source="KD's paper; that detectors have `sigmoid` is ours, DiffKD's section C.5 does not say",
        )

    options: Options

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self.taps = (self.options.tap,)

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return the loss as one term named `kd`."""
        roles = resolve_roles(self.taps, student)
        found = [self.distance(student[role], teacher[role], batch) for role in roles]
        term = found[0] if len(found) == 1 else torch.stack(found).sum()
        return Losses({"kd": self.options.weight * term}, task_weight=self.options.task_weight)

    def distance(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """Return the softened divergence of two sets of class scores B,C; maps B,C,H,W are averaged over positions."""
        t = self.options.temperature
        if self.options.scores == "sigmoid":
            target = (teacher / t).sigmoid()
            entropy = F.binary_cross_entropy_with_logits(teacher / t, target)
            return (F.binary_cross_entropy_with_logits(student / t, target) - entropy) * t * t
        log_p = F.log_softmax(student / t, dim=1)
        target = F.log_softmax(teacher / t, dim=1)
        divergence = F.kl_div(log_p, target, reduction="none", log_target=True).sum(dim=1)
        return divergence.mean() * t * t
