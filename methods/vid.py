"""Variational information distillation (Ahn et al., CVPR 2019, arXiv 1904.05835)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import STAGES, Batch, Losses, Method, Moment, Outputs, Pair
from methods.maps import match_sizes
from methods.options import MethodOptions, option
from methods.stages import pair_from_shallowest, stages

_EPS = 1e-5


class Regressor(nn.Module):
    """The predictor of a teacher map's mean from a student map, with one variance for each teacher channel."""

    def __init__(self, student: int, teacher: int, variance: float) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Conv2d(student, teacher, kernel_size=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher, teacher, kernel_size=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher, teacher, kernel_size=1, bias=False),
        )
        start = torch.full((teacher,), variance - _EPS).expm1().log()  # softplus undone
        self.log_scale = nn.Parameter(start)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the mean negative log-likelihood of B,T,H,W given B,S,H,W, without its constant."""
        variance = (F.softplus(self.log_scale) + _EPS).view(1, -1, 1, 1)
        surprise: Tensor = (self.mean(student) - teacher).square() / variance + variance.log()
        return 0.5 * surprise.mean()


class VID(Method):
    """VID: maximise a lower bound on the mutual information of student and teacher stages.

    For each stage, `0.5 mean((mu(s) - t)^2 / v + log v)` with `v = softplus(log_scale) + 1e-5` per teacher channel and
    `mu` three 1x1 convolutions; the sum over stages. `log_scale` is trained, as in RepDistiller; in mdistiller it stays
    outside the optimiser and never changes. Unequal counts of stages are matched from the shallowest, as there.
    """

    taps = (STAGES,)

    class Options(MethodOptions):
        """Options of VID."""

        weight: float = option(1.0, "of the sum over stages", source="RepDistiller and mdistiller, CIFAR-100", ge=0)
        variance: float = option(5.0, "that training starts with", source="RepDistiller and mdistiller", gt=1e-5)
        resize: Literal["pool", "interpolate"] = option(
            "pool", "how maps of unequal size are matched, before the regressor", source="RepDistiller pools the larger"
        )

    options: Options

    def build(self, pair: Pair) -> None:
        """Build one regressor for each stage."""
        self.levels = pair_from_shallowest(stages(pair.student_shapes), stages(pair.teacher_shapes))
        channels = [(pair.student_shapes[s][0], pair.teacher_shapes[t][0]) for s, t in self.levels]
        self.regressors = nn.ModuleList(Regressor(s, t, self.options.variance) for s, t in channels)

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return the loss as one term named `information`."""
        per_stage = [
            regressor(*match_sizes(student[s], teacher[t], self.options.resize))
            for regressor, (s, t) in zip(self.regressors, self.levels, strict=True)
        ]
        return Losses({"information": self.options.weight * torch.stack(per_stage).sum()})
