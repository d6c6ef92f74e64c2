"""FKD: feature-based knowledge distillation for detectors (Zhang & Ma, ICLR 2021)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.attention import channel_attention, spatial_attention
from methods.base import Batch, Losses, Method, Moment, Outputs, Pair, at_least_float32
from methods.options import MethodOptions, option


class NonLocal(nn.Module):
    """The non-local block in its dot-product form: a map plus the relations of its positions, B,C,H,W to B,C,H,W.

    Keys and values are pooled.
    """

    def __init__(self, channels: int, reduction: int, stride: int) -> None:
        super().__init__()
        inner = channels // reduction
        self.value, self.query, self.key = (nn.Conv2d(channels, inner, kernel_size=1) for _ in range(3))
        self.out = nn.Conv2d(inner, channels, kernel_size=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        # Training starts from the bare map.
        nn.init.zeros_(self.norm.weight)
        self.stride = stride

    def forward(self, features: Tensor) -> Tensor:
        """Return the map B,C,H,W with its relations added."""
        query = self.query(features).flatten(2)
        stride = min(self.stride, *features.shape[2:])
        key, value = (F.max_pool2d(conv(features), stride).flatten(2) for conv in (self.key, self.value))
        # Without a softmax the product may be taken in the order that never holds positions x positions.
        found = (value @ key.transpose(1, 2) / key.shape[2] @ query).view(len(features), -1, *features.shape[2:])
        out: Tensor = features + self.norm(self.out(found))
        return out


class FKDLevel(nn.Module):
    """One level of the pyramid: the student's adaptations, and a non-local block for each network."""

    def __init__(self, student: int, teacher: int, reduction: int, stride: int) -> None:
        super().__init__()
        self.feature = nn.Conv2d(student, teacher, kernel_size=1)
        self.channel = nn.Linear(student, teacher)
        self.spatial = nn.Conv2d(1, 1, kernel_size=3, padding=1)
        self.student_relation = NonLocal(student, reduction, stride)
        self.teacher_relation = NonLocal(teacher, reduction, stride)
        self.relation = nn.Conv2d(student, teacher, kernel_size=1)

    def forward(self, student: Tensor, teacher: Tensor, options: FKD.Options) -> dict[str, Tensor]:
        """Return the four unweighted distances of maps B,S,H,W and B,T,H,W."""
        mask = _mean(spatial_attention, student, teacher, options.temperature)
        if options.channel_mask:
            mask = mask * _mean(channel_attention, student, teacher, options.temperature)
        relations = self.relation(self.student_relation(student)), self.teacher_relation(teacher)
        return {
            "feature": _distance(self.feature(student) * mask.sqrt(), teacher * mask.sqrt()),
            "channel": _distance(self.channel(student.mean(dim=(2, 3))), teacher.mean(dim=(2, 3))),
            "spatial": _distance(self.spatial(student.mean(dim=1, keepdim=True)), teacher.mean(dim=1, keepdim=True)),
            "nonlocal": _distance(*relations),
        }


class FKD(Method):
    """FKD: imitate features where both networks attend, their means, and the relations between positions.

    For each level of the pyramid, `w_f |sqrt(M) (a(s) - t)| + w_c |b(mean_hw s) - mean_hw t| +
    w_s |c(mean_c s) - mean_c t| + w_n |d(R_s(s)) - R_t(t)|`, each an L2 norm over the whole batch. `M` is the mean of
    both networks' spatial attention (with `channel_mask` times that of their channel attention), without gradient;
    `a` to `d` are linear; `R` is a non-local block for each network, both trained.

    The authors' repository holds no code; their mmdet files are read in copies, and mmrazor's `FBKDLoss` has the same
    defaults. The defaults are those of two-stage detectors. One-stage ones have temperature 0.1, all weights times 6
    and the channel mask. The two-stage copy has a small cross-entropy between RoI scores besides (0.005), which the
    paper's text and mmrazor have not: it is left out.
    """

    taps: tuple[str, ...] = ("fpn.[0-9]",)

    class Options(MethodOptions):
        """Options of FKD."""

        tap: str = option("fpn.[0-9]", "levels of both networks", source="FKD's mmdet files: all five")
        feature_weight: float = option(
            7e-5, "of the masked features", source="FKD's mmdet files and mmrazor; 4.2e-4 on one stage", ge=0
        )
        channel_weight: float = option(
            4e-3, "of the channels' means", source="FKD's mmdet files and mmrazor; 2.4e-2 on one stage", ge=0
        )
        spatial_weight: float = option(
            4e-3, "of the positions' means", source="FKD's mmdet files and mmrazor; 2.4e-2 on one stage", ge=0
        )
        nonlocal_weight: float = option(
            7e-5, "of the relations", source="FKD's mmdet files and mmrazor; 4.2e-4 on one stage", ge=0
        )
        temperature: float = option(0.5, "softens the attentions", source="FKD's mmdet files; 0.1 on one stage", gt=0)
        channel_mask: bool = option(
            False, "weight features by the channels' attention too", source="FKD's mmdet files; true on one stage"
        )
        reductions: tuple[int, ...] = option(
            (4, 4, 2, 2, 2),
            "of the channels inside the non-local blocks, by level; the last serves all further levels",
            source="FKD's mmdet files: 64 of 256 on the two finest levels, 128 on the others",
            min_length=1,
        )
        strides: tuple[int, ...] = option(
            (8, 4, 2, 2, 2),
            "of the pooled keys and values, by level; the last serves all further levels",
            source="FKD's mmdet files; mmrazor pools by two before that, so twice these strides",
            min_length=1,
        )

    options: Options

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self.taps = (self.options.tap,)

    def build(self, pair: Pair) -> None:
        """Build one set of adaptations and non-local blocks for each level."""
        self.roles = self.pyramid_roles(pair, self.options.tap)
        widths = [(pair.student_shapes[role][0], pair.teacher_shapes[role][0]) for role in self.roles]
        if self.options.channel_mask and any(student != teacher for student, teacher in widths):
            self.skip("the channel mask averages both networks' channels, and their counts differ")
        self.pyramid = nn.ModuleList(FKDLevel(*both, *self._sizes(i)) for i, both in enumerate(widths))

    def _sizes(self, level: int) -> tuple[int, int]:
        reductions, strides = self.options.reductions, self.options.strides
        return reductions[min(level, len(reductions) - 1)], strides[min(level, len(strides) - 1)]

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return four loss terms, `feature`, `channel`, `spatial` and `nonlocal`, each summed over levels."""
        o = self.options
        weights = {
            "feature": o.feature_weight,
            "channel": o.channel_weight,
            "spatial": o.spatial_weight,
            "nonlocal": o.nonlocal_weight,
        }
        found = [level(student[role], teacher[role], o) for role, level in zip(self.roles, self.pyramid, strict=True)]
        return Losses({term: w * torch.stack([level[term] for level in found]).sum() for term, w in weights.items()})


def _mean(attention: Callable[[Tensor, float], Tensor], one: Tensor, other: Tensor, temperature: float) -> Tensor:
    return ((attention(one, temperature) + attention(other, temperature)) / 2).detach()


def _distance(found: Tensor, target: Tensor) -> Tensor:
    difference = found - target
    norm: Tensor = torch.linalg.vector_norm(at_least_float32(difference))
    return norm
