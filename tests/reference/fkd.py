"""FKD, element by element: masks, the four norms, and the non-local block as a sum over pairs of positions."""

import math
from collections.abc import Callable, Sequence

from torch import Tensor


def attention(strengths: Sequence[float], temperature: float) -> list[float]:
    exponentials = [math.exp(value / temperature) for value in strengths]
    return [len(exponentials) * value / sum(exponentials) for value in exponentials]


def strengths(image: Tensor) -> tuple[list[float], list[float]]:
    """Mean sizes by position and by channel, of C,H,W."""
    rows = image.flatten(1).abs().tolist()
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)], [sum(row) / len(row) for row in rows]


def averaged(one: list[float], other: list[float], temperature: float) -> list[float]:
    pairs = zip(attention(one, temperature), attention(other, temperature), strict=True)
    return [(a + b) / 2 for a, b in pairs]


def masked(found: Tensor, student: Tensor, teacher: Tensor, temperature: float, channels_too: bool) -> float:
    """The feature term of adapted maps `found`."""
    total = 0.0
    for adapted, s, t in zip(found, student, teacher, strict=True):
        where = averaged(strengths(s)[0], strengths(t)[0], temperature)
        which = averaged(strengths(s)[1], strengths(t)[1], temperature) if channels_too else [1.0] * len(t)
        for c, (ours, theirs) in enumerate(zip(adapted.flatten(1).tolist(), t.flatten(1).tolist(), strict=True)):
            total += sum(which[c] * w * (a - b) ** 2 for w, a, b in zip(where, ours, theirs, strict=True))
    return math.sqrt(total)


def norm(one: Tensor, other: Tensor) -> float:
    pairs = zip(one.flatten().tolist(), other.flatten().tolist(), strict=True)
    return math.sqrt(sum((a - b) ** 2 for a, b in pairs))


def relations(
    image: Tensor, query: Callable[[Tensor], Tensor], key: Callable[[Tensor], Tensor],
    value: Callable[[Tensor], Tensor], stride: int,
) -> Tensor:  # fmt: skip
    """What a non-local block adds before its last convolution: inner,H,W of C,H,W. Maps take C,H,W to inner,H,W."""
    _, height, width = image.shape
    keys, values = pooled(key(image), stride), pooled(value(image), stride)
    asked = query(image)
    found = asked.clone()
    for y in range(height):
        for x in range(width):
            answer = sum(float(asked[:, y, x] @ k) * v for k, v in zip(keys, values, strict=True))
            found[:, y, x] = answer / len(keys)
    return found


def pooled(maps: Tensor, stride: int) -> list[Tensor]:
    """The largest of each channel in each window, window by window."""
    _, height, width = maps.shape
    return [
        maps[:, y : y + stride, x : x + stride].flatten(1).max(dim=1).values
        for y in range(0, height - stride + 1, stride)
        for x in range(0, width - stride + 1, stride)
    ]
