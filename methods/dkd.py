"""Decoupled knowledge distillation (Zhao et al., CVPR 2022, arXiv 2203.08679)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.base import LOGITS, Batch, Losses, Method, Moment, Outputs
from methods.options import MethodOptions, option


class DKD(Method):
    """Decoupled knowledge distillation: the target class against the rest, and the classes of the rest, apart.

    With `p = softmax(z / T)`, `b = (p_target, 1 - p_target)` and `q` the classes other than the target renormalised:
    `T^2 (alpha KL(b_t || b_s) + beta KL(q_t || q_s))`, mean over the batch. All of it is multiplied by
    `min((epoch + 1) / warmup_epochs, 1)`.
    """

    taps = (LOGITS,)

    class Options(MethodOptions):
        """Options of DKD."""

        alpha: float = option(1.0, "of the target-class term", source="mdistiller, CIFAR-100 and ImageNet", ge=0)
        beta: float = option(
            8.0,
            "of the term over the other classes",
            source="mdistiller, CIFAR-100 default; 6 for VGG13 and WRN-40-2 to WRN pairs, 2 for resnet56 to 20 and "
            "110 to 32; ImageNet 0.5 (ResNet34 to 18) and 2 (ResNet50 to MobileNetV1)",
            ge=0,
        )
        temperature: float = option(4.0, "softens both", source="mdistiller, CIFAR-100; 1 on ImageNet", gt=0)
        weight: float = option(1.0, "of the whole", source="mdistiller: alpha and beta are the only weights", ge=0)
        warmup_epochs: int = option(
            20, "epochs of linear warm-up, 0 for none", source="mdistiller, CIFAR-100; 1 on ImageNet", ge=0
        )

    options: Options

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return two loss terms, `target` and `others`; together they are `weight` times the distance, warmed up."""
        o = self.options
        # mdistiller counts epochs from 1 and `moment.epoch` from 0.
        warmup = ((moment.epoch + 1) / max(o.warmup_epochs, 1)).clamp(max=1)
        target, others = self._parts(student[LOGITS], teacher[LOGITS], batch.targets)
        factor = o.weight * warmup
        return Losses({"target": factor * o.alpha * target, "others": factor * o.beta * others})

    def distance(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """Return `alpha` target + `beta` others of two sets of class scores B,C with `batch.targets` B.

        Maps B,C,H,W are averaged over their positions, and need targets B,H,W of the same size.
        """
        target, others = self._parts(student, teacher, batch.targets)
        return self.options.alpha * target + self.options.beta * others

    def _parts(self, student: Tensor, teacher: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        t = self.options.temperature
        if targets.is_floating_point():
            self.skip("it divides classes into one and the others, and the recipe mixes images of two")
        is_target = torch.zeros_like(student, dtype=torch.bool).scatter(1, targets.unsqueeze(1), True)
        binary_s, rest_s = _decoupled(student / t, is_target)
        binary_t, rest_t = _decoupled(teacher / t, is_target)
        return t * t * _divergence(binary_s, binary_t), t * t * _divergence(rest_s, rest_t)


def _decoupled(scores: Tensor, is_target: Tensor) -> tuple[Tensor, Tensor]:
    """Return log-probabilities of (target, rest), B,2, and of the rest alone, B,C, with none at the target."""
    log_p = F.log_softmax(scores, dim=1)
    log_target = log_p.masked_fill(~is_target, 0).sum(dim=1, keepdim=True)
    log_rest = log_p.masked_fill(is_target, -torch.inf).logsumexp(dim=1, keepdim=True)
    # The target's own place must add nothing to a divergence: minus a large number, as an infinity gives NaN there.
    within = (log_p - log_rest).masked_fill(is_target, -1e4)
    return torch.cat([log_target, log_rest], dim=1), within


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1).mean()
