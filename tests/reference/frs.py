"""FRS, position by position and class by class, of adapted features."""

import math

from torch import Tensor


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def level(adapted: Tensor, features: Tensor, student: Tensor, teacher: Tensor) -> tuple[float, float]:
    """The feature and the class term of one level: maps B,C,H,W and logits B,K,H,W."""
    feature = classes = weight = 0.0
    batch, _, height, width = features.shape
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                targets = [sigmoid(value) for value in teacher[b, :, y, x].tolist()]
                found = [sigmoid(value) for value in student[b, :, y, x].tolist()]
                richness = max(targets)
                weight += richness
                feature += richness * float(((adapted[b, :, y, x] - features[b, :, y, x]) ** 2).sum())
                for p, q in zip(targets, found, strict=True):
                    classes -= richness * (p * math.log(q) + (1 - p) * math.log(1 - q))
    return feature / weight, classes / weight
