"""PKT, sample by sample."""

import math

from torch import Tensor

EPS = 1e-7


def row(vectors: list[list[float]], i: int) -> list[float]:
    """The probabilities of sample i's neighbours, itself included."""
    similar = []
    for other in vectors:
        lengths = [math.sqrt(sum(x * x for x in v)) + EPS for v in (vectors[i], other)]
        dot = sum(a * b for a, b in zip(vectors[i], other, strict=True))
        similar.append((dot / (lengths[0] * lengths[1]) + 1) / 2)
    return [x / sum(similar) for x in similar]


def loss(student: Tensor, teacher: Tensor) -> float:
    s, t = student.tolist(), teacher.tolist()
    n = len(s)
    total = 0.0
    for i in range(n):
        for mine, theirs in zip(row(s, i), row(t, i), strict=True):
            total += theirs * math.log((theirs + EPS) / (mine + EPS))
    return total / n**2
