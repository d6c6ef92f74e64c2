"""CWD: channel-wise knowledge distillation for dense prediction (Shu et al., ICCV 2021, arXiv 2011.13256)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import SEG_FEATURE, SEG_LOGITS, Batch, Losses, Method, Moment, Outputs, Pair, at_least_float32
from methods.discriminator import Discriminator
from methods.options import MethodOptions, option


class CWD(Method):
    """CWD: each channel is a distribution over positions, and the student's must be the teacher's.

    For maps B,C,H,W with `p_c = softmax over positions (x_c / T)`: `T^2 / (B C) sum_b sum_c KL(p_c(t) || p_c(s))`, on
    the features, to which a 1x1 convolution widens the student's, and on the class scores; beside them the class
    scores' divergence at each position (pixel KD). `C` is the student's own number of channels, as the source has it.

    The adversarial term, off by default, rewards class scores that a discriminator takes for the teacher's. The
    discriminator has an optimiser of its own, which makes one step for each batch that `losses` gets.

    The defaults are CIRKD's script, whose results Table 6 cites, but for the adversarial term, which has weight 0.001
    there. The authors' own: T 4 and weight 3, class scores only.
    """

    taps: tuple[str, ...] = (SEG_FEATURE, SEG_LOGITS)

    class Options(MethodOptions):
        """Options of CWD."""

        temperature: float = option(4.0, "softens the distributions over positions", source="CWD and CIRKD", gt=0)
        feature_weight: float = option(50.0, "of the features' term; 0: none", source="CIRKD, train_cwd.sh", ge=0)
        logits_weight: float = option(3.0, "of the class scores' term", source="CWD and CIRKD, train_cwd.sh", ge=0)
        pixel_weight: float = option(1.0, "of pixel KD at temperature 1", source="CIRKD, train_cwd.sh", ge=0)
        adversarial_weight: float = option(
            0.0, "of the adversarial term; 0: no discriminator", source="ours; CIRKD, train_cwd.sh, has 0.001", ge=0
        )
        discriminator_weight: float = option(0.1, "of the discriminator's own loss", source="CIRKD, train_cwd.sh", gt=0)
        discriminator_lr: float = option(4e-4, "of the discriminator's Adam", source="CIRKD, train_kd.py", gt=0)

    options: Options

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        if self.options.feature_weight == 0:
            self.taps = (SEG_LOGITS,)

    def build(self, pair: Pair) -> None:
        """Build what the options need: a convolution that widens the student's features, and a discriminator."""
        for role in self.taps:
            student, teacher = pair.student_shapes[role], pair.teacher_shapes[role]
            if student[1:] != teacher[1:]:
                self.skip(f"{role} is {student} in the student and {teacher} in the teacher, not of one size")
        if SEG_FEATURE in self.taps:
            student, teacher = pair.student_shapes[SEG_FEATURE], pair.teacher_shapes[SEG_FEATURE]
            self.align = nn.Conv2d(student[0], teacher[0], kernel_size=1, bias=False)
        if self.options.adversarial_weight:
            self.discriminator = Discriminator(pair.teacher_shapes[SEG_LOGITS][0])

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return the loss terms `feature`, `logits`, `pixel` and `adversarial`; terms of weight 0 are left out.

        In train mode the discriminator learns from the batch, after it has judged it.
        """
        o = self.options
        terms: dict[str, Tensor] = {}
        tracked: dict[str, Tensor] = {}
        if SEG_FEATURE in self.taps:
            feature = student[SEG_FEATURE]
            distance = self._divergence(self.align(feature), teacher[SEG_FEATURE]) / feature.shape[1]
            terms["feature"] = o.feature_weight * distance
        terms["logits"] = o.logits_weight * self.distance(student[SEG_LOGITS], teacher[SEG_LOGITS], batch)
        if o.pixel_weight:
            terms["pixel"] = o.pixel_weight * pixel_divergence(student[SEG_LOGITS], teacher[SEG_LOGITS])
        if o.adversarial_weight:
            fake, real = at_least_float32(student[SEG_LOGITS]), at_least_float32(teacher[SEG_LOGITS])
            with torch.autocast(fake.device.type, enabled=False):
                terms["adversarial"] = o.adversarial_weight * self.discriminator.student_loss(fake)
                if self.training:
                    learned = (o.discriminator_weight, o.discriminator_lr, moment.gather)
                    tracked["discriminator"] = self.discriminator.learn(fake.detach(), real, *learned)
        return Losses(terms, tracked)

    def distance(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """Return the divergence over positions of two maps B,C,H,W, mean over samples and channels."""
        return self._divergence(student, teacher) / student.shape[1]

    def _divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the divergence over positions, summed over channels, mean over samples."""
        t = self.options.temperature
        log_p = F.log_softmax(student.flatten(2) / t, dim=2)
        target = F.log_softmax(teacher.flatten(2) / t, dim=2)
        return F.kl_div(log_p, target, reduction="batchmean", log_target=True) * t * t


def pixel_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Return pixel KD: `KL(teacher || student)` over classes at temperature 1, mean over all positions of B,C,H,W.

    Ignored pixels count too, as in the sources.
    """
    log_p, target = F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1)
    return F.kl_div(log_p, target, reduction="none", log_target=True).sum(dim=1).mean()
