"""ReviewKD: distilling knowledge via knowledge review (Chen et al., CVPR 2021, arXiv 2104.09044)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import EMBEDDING, PREACTS, Batch, Losses, Method, Moment, Outputs, Pair
from methods.options import MethodOptions, option
from methods.stages import STAGES_AND_PREACTS, pair_from_deepest, stages


class FusionBlock(nn.Module):
    """The attention-based fusion of one student stage with the map passed up from the deeper stages.

    Maps are brought to the teacher's size by nearest upsampling, since the sources resize so.
    """

    def __init__(self, student: int, mid: int, teacher: tuple[int, ...], deepest: bool) -> None:
        super().__init__()
        self.size = teacher[1:]
        self.reduce = _conv_norm(student, mid, kernel=1)
        self.attend = None if deepest else nn.Conv2d(2 * mid, 2, kernel_size=1)
        self.expand = _conv_norm(mid, teacher[0], kernel=3)

    def forward(self, x: Tensor, passed: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the map B,T,H,W that is compared with the teacher's, and the map B,M,H,W that is passed up."""
        x = self.reduce(x)
        if self.attend is not None and passed is not None:
            passed = F.interpolate(passed, x.shape[-2:], mode="nearest")
            mine, theirs = torch.sigmoid(self.attend(torch.cat([x, passed], dim=1))).chunk(2, dim=1)
            x = x * mine + passed * theirs
        if x.shape[-2:] != self.size:
            x = F.interpolate(x, self.size, mode="nearest")
        return self.expand(x), x


class ReviewKD(Method):
    """ReviewKD: student stages, fused from the deepest up, meet the teacher's under a hierarchical context loss.

    For each stage, `(mse(s, t) + sum_l 2^-l mse(pool_l(s), pool_l(t))) / sum of weights` over the pooled sides 4, 2, 1
    that are smaller than the map; the sum over stages times `min((epoch + first_epoch) / warmup_epochs, 1)`. The
    embedding is the deepest stage, as C x 1 x 1.

    Student stages are after their activation (CIFAR) or before (ImageNet), the teacher's before; a teacher without
    pre-activations, such as a transformer, gives its stages. Where the two have unequal counts, the deepest ones are
    matched.
    """

    taps = (STAGES_AND_PREACTS, EMBEDDING)

    class Options(MethodOptions):
        """Options of ReviewKD."""

        weight: float = option(
            5.0,
            "of the whole",
            source="ReviewKD, CIFAR-100, resnet32x4 to 8x4, to ShuffleNetV1, and WRN-40-2; 8 for resnet32x4 to "
            "ShuffleNetV2, 0.6 for resnet56 to 20, 1 for resnet110 to 32; unknown for VGG and MobileNetV2; ImageNet "
            "(mdistiller) 1 for ResNet34 to 18 and 8 for ResNet50 to MobileNetV1",
            ge=0,
        )
        warmup_epochs: int = option(
            20, "epochs of linear warm-up, 0 for none", source="ReviewKD, CIFAR-100; ImageNet: mdistiller 1", ge=0
        )
        first_epoch: Literal[0, 1] = option(
            1, "number of the first epoch in the warm-up", source="mdistiller 1, ReviewKD 0"
        )
        student: Literal["stages", "preact"] = option(
            "stages", "what is tapped in the student", source="ReviewKD, CIFAR-100; preact on ImageNet"
        )
        max_mid_channels: int = option(
            512, "widest fusion", source="ReviewKD; 256 for MobileNetV1 there, 512 in mdistiller", ge=1
        )

    options: Options

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        if self.options.student == "preact":
            self.taps = (PREACTS, EMBEDDING)

    def build(self, pair: Pair) -> None:
        """Build one fusion block for each stage, deepest first, sized by the taps."""
        student, teacher = pair.student_shapes, pair.teacher_shapes
        of_student = [*stages(student, self.options.student == "preact"), EMBEDDING]
        of_teacher = [*stages(teacher, preact=True), EMBEDDING]
        self.levels = pair_from_deepest(of_student, of_teacher)
        if len(self.levels) < 2:
            self.skip("a network has no stages besides its embedding")
        mid = min(self.options.max_mid_channels, student[EMBEDDING][0])
        self.blocks = nn.ModuleList(
            FusionBlock(student[s][0], mid, (*teacher[t], 1, 1)[:3], s == EMBEDDING) for s, t in self.levels
        )

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return the loss as one term named `review`."""
        o = self.options
        passed: Tensor | None = None
        total = student[EMBEDDING].new_zeros(())
        for block, (role_s, role_t) in zip(self.blocks, self.levels, strict=True):
            answer, passed = block(_map(student[role_s]), passed)
            total = total + self.distance(answer, teacher[role_t], batch)
        if o.warmup_epochs:
            total = total * ((moment.epoch + o.first_epoch) / o.warmup_epochs).clamp(max=1)
        return Losses({"review": o.weight * total})

    def distance(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """Return the hierarchical context loss of two maps B,C,H,W of one shape; vectors B,C give the squared error."""
        student, teacher = _map(student), _map(teacher)
        weights, total = 1.0, F.mse_loss(student, teacher)
        share = 1.0
        for side in (4, 2, 1):
            if side < student.shape[-2]:
                share /= 2
                pooled = F.adaptive_avg_pool2d(student, side), F.adaptive_avg_pool2d(teacher, side)
                weights, total = weights + share, total + share * F.mse_loss(*pooled)
        return total / weights


def _conv_norm(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_uniform_(conv.weight, a=1)  # as ReviewKD starts them
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def _map(tensor: Tensor) -> Tensor:
    return tensor if tensor.dim() == 4 else tensor[..., None, None]
