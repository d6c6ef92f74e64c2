"""Probabilistic knowledge transfer (Passalis & Tefas, ECCV 2018, arXiv 1803.10837)."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.base import EMBEDDING, Batch, Losses, Method, Moment, Outputs, at_least_float32
from methods.options import MethodOptions, option

_EPS = 1e-7


class PKT(Method):
    """PKT: match the probability of each sample's neighbours in a batch.

    `p[i, j]` is `(1 + cos(e_i, e_j)) / 2` over its sum in row i; `weight * mean(p_t log(p_t / p_s))` over all i, j.
    """

    taps = (EMBEDDING,)

    class Options(MethodOptions):
        """Options of PKT."""

        weight: float = option(30000.0, "of the divergence", source="RepDistiller, CIFAR-100", ge=0)

    options: Options

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return the loss as one term named `neighbours`."""
        term = self.distance(student[EMBEDDING], teacher[EMBEDDING], batch)
        return Losses({"neighbours": self.options.weight * term})

    def distance(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """Return the mean divergence of two sets of vectors B,C of any widths; maps are flattened."""
        p_s, p_t = _neighbours(student.flatten(1)), _neighbours(teacher.flatten(1))
        return (p_t * ((p_t + _EPS) / (p_s + _EPS)).log()).mean()


def _neighbours(vectors: Tensor) -> Tensor:
    """Return the similarities B,B of vectors B,C, rows summing to one, in float32 at least for the logarithms."""
    vectors = at_least_float32(vectors)
    unit = vectors / (torch.linalg.vector_norm(vectors, dim=1, keepdim=True) + _EPS)
    with torch.autocast(vectors.device.type, enabled=False):
        similar = (unit @ unit.T + 1) / 2
    probabilities: Tensor = similar / similar.sum(dim=1, keepdim=True)
    return probabilities
