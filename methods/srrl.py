"""SRRL: knowledge distillation via softmax regression representation learning (Yang et al., ICLR 2021)."""

from __future__ import annotations

from math import sqrt

from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import LOGITS, PRE_POOL, Batch, Losses, Method, Moment, Outputs, Pair
from methods.options import MethodOptions, option


class SRRL(Method):
    """SRRL: the student's last map, connected, must mean to the teacher's classifier what the teacher's own does.

    With `c = ReLU(BN(conv1x1(s)))` and `m` the mean over positions:
    `feature_weight * mse(m(c), m(t)) + regression_weight * mse(W_t m(c) + b_t, teacher logits)`; `W_t, b_t` is the
    teacher's classifier, frozen. The authors' code calls its feature loss with the features as constructor arguments
    and fails; this is what is plainly meant. No term on the student's logits.
    """

    taps = (PRE_POOL, LOGITS)

    class Options(MethodOptions):
        """Options of SRRL."""

        feature_weight: float = option(1.0, "of the means", source="SRRL, ImageNet; CIFAR-100 unknown", ge=0)
        regression_weight: float = option(
            1.0, "of the teacher classifier's scores", source="SRRL, ImageNet; CIFAR-100 unknown", ge=0
        )

    options: Options
    classifier_weight: Tensor
    classifier_bias: Tensor | None

    def build(self, pair: Pair) -> None:
        """Build the connector, and copy the teacher's classifier into buffers, which no optimiser trains."""
        student, teacher = pair.student_shapes[PRE_POOL], pair.teacher_shapes[PRE_POOL]
        classifier = pair.teacher.classifier
        if not isinstance(classifier, nn.Linear) or classifier.in_features != teacher[0]:
            self.skip(f"the teacher's classifier is no linear layer on its {teacher[0]} pooled channels")
        conv = nn.Conv2d(student[0], teacher[0], kernel_size=1, bias=False)
        nn.init.normal_(conv.weight, std=sqrt(2 / teacher[0]))  # as the authors start it
        self.connector = nn.Sequential(conv, nn.BatchNorm2d(teacher[0]), nn.ReLU())
        self.register_buffer("classifier_weight", classifier.weight.detach().clone())
        bias = classifier.bias
        self.register_buffer("classifier_bias", None if bias is None else bias.detach().clone())

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return two loss terms, `feature` and `regression`."""
        mean_s = self.connector(student[PRE_POOL]).mean(dim=(2, 3))
        feature = F.mse_loss(mean_s, teacher[PRE_POOL].mean(dim=(2, 3)))
        scores = F.linear(mean_s, self.classifier_weight, self.classifier_bias)
        regression = F.mse_loss(scores, teacher[LOGITS])
        return Losses(
            {
                "feature": self.options.feature_weight * feature,
                "regression": self.options.regression_weight * regression,
            }
        )
