"""Relational knowledge distillation (Park et al., CVPR 2019, arXiv 1904.05068)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.base import EMBEDDING, Batch, Losses, Method, Moment, Outputs, at_least_float32
from methods.options import MethodOptions, option


class RKD(Method):
    """RKD: match the distances of all pairs and the angles of all triplets of a batch, in smooth L1.

    Distances (with `squared`, their squares) are divided by their mean over pairs. The angle at `j` is the cosine
    between `e_i - e_j` and `e_k - e_j`.
    """

    taps = (EMBEDDING,)

    class Options(MethodOptions):
        """Options of RKD."""

        distance_weight: float = option(25.0, "of the pairs", source="RepDistiller and mdistiller, CIFAR-100", ge=0)
        angle_weight: float = option(50.0, "of the triplets", source="RepDistiller and mdistiller, CIFAR-100", ge=0)
        squared: bool = option(False, "compare squared distances", source="RepDistiller and mdistiller: not squared")

    options: Options

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return two loss terms, `distance` and `angle`."""
        distance, angle = self._relations(student[EMBEDDING], teacher[EMBEDDING])
        return Losses({"distance": self.options.distance_weight * distance, "angle": self.options.angle_weight * angle})

    def distance(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """Return both weighted terms of two sets of vectors B,C of any widths; maps are flattened."""
        distance, angle = self._relations(student.flatten(1), teacher.flatten(1))
        return self.options.distance_weight * distance + self.options.angle_weight * angle

    def _relations(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        edges_s, edges_t = _edges(student), _edges(teacher)
        squared = self.options.squared
        pairs = F.smooth_l1_loss(_distances(edges_s, squared), _distances(edges_t, squared))
        triplets = F.smooth_l1_loss(_angles(edges_s), _angles(edges_t))
        return pairs, triplets


def _edges(vectors: Tensor) -> Tensor:
    """Return the edges B,B,C of vectors B,C: [j, i] is vector i minus vector j, in float32 at least."""
    vectors = at_least_float32(vectors)
    return vectors.unsqueeze(0) - vectors.unsqueeze(1)


def _distances(edges: Tensor, squared: bool) -> Tensor:
    """Return the lengths B,B, or their squares, divided by their mean without the diagonal."""
    own = torch.eye(len(edges), dtype=torch.bool, device=edges.device)
    # Clamped before the root, whose slope at zero is infinite.
    squares = edges.square().sum(dim=2).clamp(min=1e-12)
    lengths = (squares if squared else squares.sqrt()).masked_fill(own, 0)
    return lengths * (len(edges) * (len(edges) - 1)) / lengths.sum()


def _angles(edges: Tensor) -> Tensor:
    """Return the cosines B,B,B at the first index."""
    unit = F.normalize(edges, dim=2)
    with torch.autocast(edges.device.type, enabled=False):
        return unit @ unit.transpose(1, 2)
