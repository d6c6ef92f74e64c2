"""OFD: a comprehensive overhaul of feature distillation (Heo et al., ICCV 2019, arXiv 1904.01866)."""

from __future__ import annotations

from math import pi, sqrt
from typing import Literal

import torch
from torch import Tensor, nn

from methods.base import PREACTS, Batch, Losses, Method, Moment, Outputs, Pair, at_least_float32
from methods.maps import match_sizes
from methods.options import MethodOptions, option
from methods.stages import pair_from_deepest, stages


class Connector(nn.Module):
    """The connector of one stage: it maps B,S,H,W to the teacher's channels and takes the partial L2 above a margin."""

    margin: Tensor

    def __init__(self, student: int, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        teacher = norm.num_features
        conv = nn.Conv2d(student, teacher, kernel_size=1, bias=False)
        nn.init.normal_(conv.weight, std=sqrt(2 / teacher))  # as the authors start it
        self.connect = nn.Sequential(conv, nn.BatchNorm2d(teacher))
        self.register_buffer("margin", margin(norm).view(1, -1, 1, 1))

    def forward(self, student: Tensor, teacher: Tensor, resize: Literal["pool", "interpolate"]) -> Tensor:
        """Return the partial L2, summed over channels and positions, mean over the batch."""
        found, target = match_sizes(self.connect(student), teacher, resize)
        found = at_least_float32(found)  # float16 has no room for squares and sums
        target = torch.maximum(target, self.margin)
        # Where the teacher is silent, a student below the margin is as silent as it need be.
        counts = (found > target) | (target > 0)
        partial: Tensor = (found - target).square() * counts
        return partial.flatten(1).sum(dim=1).mean()


class OFD(Method):
    """OFD: student stages, connected, meet the teacher's pre-activations clipped below at a margin, in a partial L2.

    For stage i of n, `2^-(n - 1 - i) * sum((c - t')^2)` where `c > t'` or `t' > 0`, with `t' = max(t, margin)`; mean
    over the batch. A channel's margin is the mean of the negative part of the normal distribution that its batch norm
    makes. Where the two networks have unequal counts of stages, the deepest are matched.

    Both published implementations run the teacher in train mode, so that its pre-activations are normalised by the
    batch: `teacher: train`. By default it is in eval mode, as for every other method: its batch norms are folded away
    before training, and its outputs do not depend on how a batch is split over devices.
    """

    taps = (PREACTS,)

    class Options(MethodOptions):
        """Options of OFD."""

        weight: float = option(
            1e-3, "of the sum over stages", source="OFD and mdistiller, CIFAR-100; 1e-4 on ImageNet", ge=0
        )
        teacher: Literal["eval", "train"] = option(
            "eval",
            "the teacher's mode: `train` normalises by the batch, as both published implementations do",
            source="ours; train: overhaul-distillation at 76344a8 and mdistiller at a08d46f",
        )
        resize: Literal["pool", "interpolate"] = option(
            "pool", "how maps of unequal size are matched, after the connector", source="mdistiller pools the teacher's"
        )

    options: Options

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self.teacher_in_train_mode = self.options.teacher == "train"

    def build(self, pair: Pair) -> None:
        """Build one connector for each stage, deepest first, with the margins of the teacher's batch norms."""
        roles = [stages(shapes, preact=True) for shapes in (pair.student_shapes, pair.teacher_shapes)]
        self.levels = pair_from_deepest(*roles)
        self.connectors = nn.ModuleList(
            Connector(pair.student_shapes[s][0], self._norm(pair, t)) for s, t in self.levels
        )

    def _norm(self, pair: Pair, role: str) -> nn.BatchNorm2d:
        norm = pair.teacher.norm_of(role)
        if not isinstance(norm, nn.BatchNorm2d) or norm.num_features != pair.teacher_shapes[role][0]:
            self.skip(f"the teacher names no batch norm behind {role}")
        return norm

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return the loss as one term named `partial`."""
        per_stage = [
            connector(student[s], teacher[t], self.options.resize) / 2**depth
            for depth, (connector, (s, t)) in enumerate(zip(self.connectors, self.levels, strict=True))
        ]
        return Losses({"partial": self.options.weight * torch.stack(per_stage).sum()})


def margin(norm: nn.BatchNorm2d) -> Tensor:
    """Return the mean of each channel's N(bias, weight^2) below zero, or -3 |weight| if hardly any of it is below."""
    mean, std = norm.bias.detach().double(), norm.weight.detach().abs().double()
    below = torch.special.ndtr(-mean / std)
    conditional = mean - std * torch.exp(-((mean / std) ** 2) / 2) / sqrt(2 * pi) / below
    return torch.where(below > 0.001, conditional, -3 * std).to(norm.weight.dtype)
