"""DIST: knowledge distillation from a stronger teacher (Huang et al., NeurIPS 2022, arXiv 2205.10536)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.base import LOGITS, Batch, Losses, Method, Moment, Outputs
from methods.options import MethodOptions, option


class DIST(Method):
    """DIST: correlate predictions within each sample and, class by class, over the batch.

    With `p = softmax(z / tau)` of shape B,C and `r` Pearson's correlation:
    `tau^2 (beta mean_b (1 - r(p_s[b], p_t[b])) + gamma mean_c (1 - r(p_s[:, c], p_t[:, c])))`.
    """

    taps = (LOGITS,)

    class Options(MethodOptions):
        """Options of DIST."""

        beta: float = option(1.0, "of the correlation within samples", source="DIST's loss, its default", ge=0)
        gamma: float = option(1.0, "of the correlation over samples", source="DIST's loss, its default", ge=0)
        tau: float = option(1.0, "softens both", source="DIST, ImageNet and Cityscapes; 4 on CIFAR-100", gt=0)
        weight: float = option(
            1.0,
            "of the whole",
            source="DIST, Cityscapes; 2 in its files for ImageNet and CIFAR-100, the same as beta = gamma = 2",
            ge=0,
        )

    options: Options

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return two loss terms, `inter` (within a sample, over classes) and `intra` (within a class, over samples)."""
        o = self.options
        inter, intra = self._parts(student[LOGITS], teacher[LOGITS])
        return Losses({"inter": o.weight * o.beta * inter, "intra": o.weight * o.gamma * intra})

    def distance(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """Return `beta` inter + `gamma` intra of two sets of scores B,C; in maps B,C,H,W every position is one row.

        Who uses the distance weighs it: `weight` is not in it.
        """
        inter, intra = self._parts(student, teacher)
        return self.options.beta * inter + self.options.gamma * intra

    def _parts(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        t = self.options.tau
        p_s = F.softmax(_rows(student) / t, dim=1)
        p_t = F.softmax(_rows(teacher) / t, dim=1)
        return t * t * _uncorrelated(p_s, p_t), t * t * _uncorrelated(p_s.T, p_t.T)


def _rows(scores: Tensor) -> Tensor:
    return scores.movedim(1, -1).flatten(0, -2)


def _uncorrelated(a: Tensor, b: Tensor) -> Tensor:
    """Return one minus Pearson's correlation of each row of `a` with the same row of `b`, mean over rows."""
    a = a - a.mean(dim=1, keepdim=True)
    b = b - b.mean(dim=1, keepdim=True)
    lengths: Tensor = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    # eps is added to the product, as DIST does: with near-constant rows any other place gives other values.
    return 1 - ((a * b).sum(dim=1) / (lengths + 1e-8)).mean()
