"""CWD, channel by channel: each is a distribution over positions."""

import math

from torch import Tensor


def softmax(values: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in values]
    return [power / sum(powers) for power in powers]


def divergence(student: Tensor, teacher: Tensor, temperature: float, divisor: int) -> float:
    """Of maps B,C,H,W; `divisor` takes the place of the number of channels."""
    found = 0.0
    for image_s, image_t in zip(student, teacher, strict=True):
        for channel_s, channel_t in zip(image_s, image_t, strict=True):
            q = softmax(channel_s.flatten().tolist(), temperature)
            p = softmax(channel_t.flatten().tolist(), temperature)
            found += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return temperature**2 * found / (len(student) * divisor)


def pixel(student: Tensor, teacher: Tensor) -> float:
    """Pixel KD, position by position."""
    found = []
    for image_s, image_t in zip(student, teacher, strict=True):
        for scores_s, scores_t in zip(image_s.flatten(1).T, image_t.flatten(1).T, strict=True):
            p, q = softmax(scores_t.tolist(), 1.0), softmax(scores_s.tolist(), 1.0)
            found.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    return sum(found) / len(found)
