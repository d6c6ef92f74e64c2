"""Attention transfer, position by position."""

import math

from torch import Tensor


def attention(image: Tensor, p: float) -> list[float]:
    """One image's C,H,W as a unit vector of H x W places."""
    channels, height, width = image.shape
    energy = [
        sum(abs(float(image[c, y, x])) ** p for c in range(channels)) / channels
        for y in range(height)
        for x in range(width)
    ]
    length = math.sqrt(sum(e * e for e in energy))
    return [e / length for e in energy]


def loss(student: Tensor, teacher: Tensor, p: float) -> float:
    """Maps B,C,H,W of one size."""
    squares = [
        (a - b) ** 2
        for s, t in zip(student, teacher, strict=True)
        for a, b in zip(attention(s, p), attention(t, p), strict=True)
    ]
    return sum(squares) / len(squares)
