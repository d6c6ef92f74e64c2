"""CRD, candidate by candidate."""

import math

from torch import Tensor


def unit(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector]


def embedded(feature: Tensor, weight: Tensor, bias: Tensor) -> list[float]:
    lines = zip(weight.tolist(), bias.tolist(), strict=True)
    return unit([sum(w * x for w, x in zip(line, feature.tolist(), strict=True)) + b for line, b in lines])


class Bank:
    """One network's memory, and the constant of the other network's scores against it."""

    def __init__(self, memory: Tensor, temperature: float) -> None:
        self.rows = memory.tolist()
        self.temperature = temperature
        self.scale: float | None = None

    def loss(self, anchors: list[list[float]], candidates: list[list[int]]) -> float:
        scores = [
            [math.exp(sum(a * m for a, m in zip(anchor, self.rows[i], strict=True)) / self.temperature) for i in chosen]
            for anchor, chosen in zip(anchors, candidates, strict=True)
        ]
        if self.scale is None:
            every = [score for line in scores for score in line]
            self.scale = sum(every) / len(every) * len(self.rows)
        total = 0.0
        for positive, *negatives in scores:
            m = len(negatives) / len(self.rows)
            p = positive / self.scale
            total -= math.log(p / (p + m + 1e-7))
            for negative in negatives:
                total -= math.log(m / (negative / self.scale + m + 1e-7))
        return total / len(anchors)

    def remember(self, embeddings: list[list[float]], samples: list[int], momentum: float) -> None:
        for vector, i in zip(embeddings, samples, strict=True):
            mixed = [momentum * old + (1 - momentum) * new for old, new in zip(self.rows[i], vector, strict=True)]
            self.rows[i] = unit(mixed)
