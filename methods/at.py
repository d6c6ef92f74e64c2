"""Attention transfer (Zagoruyko & Komodakis, ICLR 2017, arXiv 1612.03928)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.base import STAGES, Batch, Losses, Method, Moment, Outputs, Pair, at_least_float32
from methods.maps import match_sizes
from methods.options import MethodOptions, option
from methods.stages import pair_from_shallowest, stages


class AT(Method):
    """Attention transfer: match where each stage is active, whatever its channels.

    The attention of a map is `mean_c |f|^p`, flattened and divided by its L2 norm;
    `weight * sum over stages of mean((a_s - a_t)^2)`. Unequal counts of stages are matched from the shallowest, as
    RepDistiller does.
    """

    taps = (STAGES,)

    class Options(MethodOptions):
        """Options of AT."""

        p: float = option(2.0, "power of the activations", source="RepDistiller and mdistiller", gt=0)
        weight: float = option(1000.0, "of the sum over stages", source="RepDistiller and mdistiller, CIFAR-100", ge=0)
        resize: Literal["pool", "interpolate"] = option(
            "pool", "how maps of unequal size are matched", source="RepDistiller pools the larger"
        )

    options: Options

    def build(self, pair: Pair) -> None:
        """Pair the stages. There is nothing to train."""
        self.levels = pair_from_shallowest(stages(pair.student_shapes), stages(pair.teacher_shapes))

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return the loss as one term named `attention`."""
        per_stage = [self.distance(student[s], teacher[t], batch) for s, t in self.levels]
        return Losses({"attention": self.options.weight * torch.stack(per_stage).sum()})

    def distance(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """Return the mean squared difference of the attentions of two maps B,C,H,W of any channels and sizes."""
        student, teacher = match_sizes(student, teacher, self.options.resize)
        return F.mse_loss(self._attention(student), self._attention(teacher))

    def _attention(self, features: Tensor) -> Tensor:
        features = at_least_float32(features)
        return F.normalize(features.abs().pow(self.options.p).mean(dim=1).flatten(1))
