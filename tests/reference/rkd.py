"""RKD, pair by pair and triplet by triplet."""

import math

from torch import Tensor


def smooth_l1(a: float, b: float) -> float:
    gap = abs(a - b)
    return gap * gap / 2 if gap < 1 else gap - 0.5


def norm(v: list[float]) -> float:
    return math.sqrt(sum(x * x for x in v))


def gap(a: list[float], b: list[float]) -> list[float]:
    return [x - y for x, y in zip(a, b, strict=True)]


def pair_distances(vectors: list[list[float]], squared: bool) -> dict[tuple[int, int], float]:
    n = len(vectors)
    power = 2 if squared else 1
    found = {(i, j): norm(gap(vectors[i], vectors[j])) ** power for i in range(n) for j in range(n) if i != j}
    mean = sum(found.values()) / len(found)
    return {pair: value / mean for pair, value in found.items()}


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (norm(a) * norm(b))


def loss(student: Tensor, teacher: Tensor, squared: bool) -> tuple[float, float]:
    """The distance term and the angle term, unweighted."""
    s, t = student.tolist(), teacher.tolist()
    n = len(s)
    of_s, of_t = pair_distances(s, squared), pair_distances(t, squared)
    distance = sum(smooth_l1(of_s[pair], of_t[pair]) for pair in of_s) / n**2  # i = j adds zero, and is counted
    angle = 0.0
    for j in range(n):
        for i in range(n):
            for k in range(n):
                if j not in (i, k):
                    mine = cosine(gap(s[i], s[j]), gap(s[k], s[j]))
                    angle += smooth_l1(mine, cosine(gap(t[i], t[j]), gap(t[k], t[j])))
    return distance, angle / n**3
