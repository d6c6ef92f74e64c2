"""Knowledge distillation (Hinton et al., 2015, arXiv 1503.02531)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from methods.base import LOGITS, Batch, Losses, Method, Moment, Outputs
from methods.options import MethodOptions, option


class KD(Method):
    """Knowledge distillation: match softened class probabilities.

    `T^2 KL(softmax(t/T) || softmax(s/T))`, mean over the batch, beside `task_weight` times cross-entropy.
    """

    taps = (LOGITS,)

    class Options(MethodOptions):
        """Options of KD."""

        temperature: float = option(4.0, "softens both distributions", source="RepDistiller, CIFAR-100", gt=0)
        weight: float = option(0.9, "of the distillation term", source="RepDistiller: alpha 0.9", ge=0)
        task_weight: float = option(0.1, "of the cross-entropy", source="RepDistiller: gamma 0.1", ge=0)

    options: Options

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """One term, `kd`."""
        term = self.distance(student[LOGITS], teacher[LOGITS], batch)
        return Losses({"kd": self.options.weight * term}, task_weight=self.options.task_weight)

    def distance(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """Softened divergence of two sets of class scores, B,C; maps B,C,H,W are averaged over their positions."""
        t = self.options.temperature
        log_p = F.log_softmax(student / t, dim=1)
        target = F.log_softmax(teacher / t, dim=1)
        divergence = F.kl_div(log_p, target, reduction="none", log_target=True).sum(dim=1)
        return divergence.mean() * t * t
