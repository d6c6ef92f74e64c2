"""FGD's focal terms, box by box and cell by cell; the global term from two given maps."""

import math

from torch import Tensor


def attention(strengths: list[float], temperature: float) -> list[float]:
    """As many as there are strengths, 1 on average."""
    exponentials = [math.exp(value / temperature) for value in strengths]
    return [len(strengths) * value / sum(exponentials) for value in exponentials]


def spatial(image: Tensor, temperature: float) -> list[list[float]]:
    """Of C,H,W, by row and column."""
    channels, height, width = image.shape
    flat = [
        sum(abs(float(image[c, y, x])) for c in range(channels)) / channels for y in range(height) for x in range(width)
    ]
    found = attention(flat, temperature)
    return [found[y * width : (y + 1) * width] for y in range(height)]


def channel(image: Tensor, temperature: float) -> list[float]:
    channels, height, width = image.shape
    sums = [sum(abs(value) for value in image[c].flatten().tolist()) for c in range(channels)]
    return attention([total / (height * width) for total in sums], temperature)


def areas(boxes: list[list[float]], size: tuple[int, int], height: int, width: int) -> list[list[float]]:
    """By cell, one over the area of the smallest box there, 0 where there is none. `size` is an image's H, W."""
    found = [[0.0] * width for _ in range(height)]
    for left, top, right, bottom in boxes:
        columns = math.floor(left / size[1] * width), math.ceil(right / size[1] * width)
        rows = math.floor(top / size[0] * height), math.ceil(bottom / size[0] * height)
        weight = 1 / (rows[1] + 1 - rows[0]) / (columns[1] + 1 - columns[0])
        for y in range(max(0, rows[0]), min(height, rows[1] + 1)):
            for x in range(max(0, columns[0]), min(width, columns[1] + 1)):
                found[y][x] = max(found[y][x], weight)
    return found


def terms(
    student: Tensor, teacher: Tensor, boxes: list[list[list[float]]], sizes: list[tuple[int, int]], temperature: float
) -> tuple[float, float, float]:
    """Foreground, background and attention of aligned maps B,C,H,W, unweighted."""
    batch, channels, height, width = teacher.shape
    foreground = background = apart = 0.0
    for i in range(batch):
        where, which = spatial(teacher[i], temperature), channel(teacher[i], temperature)
        ours_where, ours_which = spatial(student[i], temperature), channel(student[i], temperature)
        apart += sum(abs(a - b) for a, b in zip(which, ours_which, strict=True))
        weights = areas(boxes[i], sizes[i], height, width)
        empty = sum(weight == 0 for row in weights for weight in row)
        for y in range(height):
            for x in range(width):
                apart += abs(where[y][x] - ours_where[y][x])
                errors = [
                    float(student[i, c, y, x] - teacher[i, c, y, x]) ** 2 * which[c] * where[y][x]
                    for c in range(channels)
                ]
                foreground += weights[y][x] * sum(errors)
                background += sum(errors) / empty if weights[y][x] == 0 else 0.0
    return foreground / batch, background / batch, apart / batch


def context(image: Tensor, mask: Tensor, bias: float, first: tuple[Tensor, Tensor], norm: tuple[Tensor, Tensor],
            last: tuple[Tensor, Tensor]) -> Tensor:  # fmt: skip
    """One image C,H,W plus what its attended sum says of each channel; weights are matrices out x in."""
    channels, height, width = image.shape
    places = [(y, x) for y in range(height) for x in range(width)]
    scores = [math.exp(float(image[:, y, x] @ mask) + bias) for y, x in places]
    attended = [
        sum(score * float(image[c, y, x]) for score, (y, x) in zip(scores, places, strict=True)) / sum(scores)
        for c in range(channels)
    ]
    hidden = _linear(attended, *first)
    mean = sum(hidden) / len(hidden)
    variance = sum((value - mean) ** 2 for value in hidden) / len(hidden)
    normed = [
        max(0.0, (value - mean) / math.sqrt(variance + 1e-5) * float(w) + float(b))
        for value, w, b in zip(hidden, *norm, strict=True)
    ]
    added = _linear(normed, *last)
    return image + image.new_tensor(added).view(-1, 1, 1)


def _linear(values: list[float], weight: Tensor, bias: Tensor) -> list[float]:
    return [
        sum(float(w) * v for w, v in zip(row, values, strict=True)) + float(b)
        for row, b in zip(weight, bias, strict=True)
    ]
