"""FRS: distilling object detectors with feature richness (Du et al., NeurIPS 2021, arXiv 2111.00674)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from methods.base import Batch, Losses, Method, Moment, Outputs, Pair, at_least_float32
from methods.options import MethodOptions, option


class FRS(Method):
    """FRS: imitate features and class scores where the teacher's own scores say that there is something to learn.

    For each level of the pyramid, with the feature-richness score `M = max over classes of sigmoid(teacher logits)`:
    `feature_weight sum(M (t - conv3x3(s))^2) / sum M + class_weight sum(M BCE(sigmoid(s'), sigmoid(t'))) / sum M`,
    where `s'` and `t'` are the class logits of the dense head: the detector's own, or the region proposal network's in
    two-stage detectors. Both weights rise linearly over the first steps.

    The defaults are the released code's for RetinaNet. Feature and class weights of the others: Faster R-CNN 0.002 and
    0.1, FCOS 0.01 and 0.05.
    """

    taps: tuple[str, ...] = ("fpn.[0-9]", "cls_scores.[0-9]")

    class Options(MethodOptions):
        """Options of FRS."""

        feature_weight: float = option(
            0.005, "of the features", source="FRS's code, RetinaNet; 0.002 Faster R-CNN, 0.01 FCOS", ge=0
        )
        class_weight: float = option(
            0.02, "of the class scores", source="FRS's code, RetinaNet; 0.1 Faster R-CNN, 0.05 FCOS", ge=0
        )
        warmup_steps: int = option(500, "over which both weights rise", source="FRS's code, all configurations", ge=0)

    options: Options

    def build(self, pair: Pair) -> None:
        """Build one adaptation for each level."""
        self.features, self.scores = (self.pyramid_roles(pair, tap) for tap in self.taps)
        if len(self.features) != len(self.scores):
            self.skip(f"{len(self.features)} levels of features have {len(self.scores)} levels of class scores")
        for feature, score in zip(self.features, self.scores, strict=True):
            if pair.student_shapes[score] != pair.teacher_shapes[score]:
                self.skip(
                    f"{score} is {pair.student_shapes[score]} in the student and {pair.teacher_shapes[score]} in the"
                    " teacher: their heads must have the same classes and anchors"
                )
            if pair.teacher_shapes[feature][1:] != pair.teacher_shapes[score][1:]:
                self.skip(f"{feature} and {score} have different sizes")
        self.adapt = nn.ModuleList(
            nn.Conv2d(pair.student_shapes[role][0], pair.teacher_shapes[role][0], kernel_size=3, padding=1)
            for role in self.features
        )

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return two loss terms, `feature` and `class`, each summed over levels."""
        features, classes = [], []
        for adapt, feature, score in zip(self.adapt, self.features, self.scores, strict=True):
            logits, target = (at_least_float32(outputs[score]) for outputs in (student, teacher))
            probabilities = target.sigmoid()
            richness = probabilities.amax(dim=1, keepdim=True)
            error = (at_least_float32(teacher[feature]) - adapt(student[feature])).square()
            entropy = F.binary_cross_entropy_with_logits(logits, probabilities, reduction="none")
            features.append((richness * error).sum() / richness.sum())
            classes.append((richness * entropy).sum() / richness.sum())
        ramp = moment.ramp(self.options.warmup_steps)
        return Losses(
            {
                "feature": self.options.feature_weight * (torch.stack(features).sum() * ramp),
                "class": self.options.class_weight * (torch.stack(classes).sum() * ramp),
            }
        )
