"""MasKD's terms for segmentation, token by token and position by position."""

import math

from torch import Tensor


def mask(token: Tensor, scores: Tensor) -> list[float]:
    """Of a map C,H,W: one number in (0, 1) a position."""
    return [1 / (1 + math.exp(-float(token @ vector))) for vector in scores.flatten(1).T]


def masked_error(tokens: Tensor, student: Tensor, teacher: Tensor) -> float:
    """Of maps B,C,H,W."""
    found = []
    for image_s, image_t in zip(student, teacher, strict=True):
        for token in tokens:
            weights = mask(token, image_t)
            for s, t in zip(image_s.flatten(1).tolist(), image_t.flatten(1).tolist(), strict=True):
                total = sum((w * (a - b)) ** 2 for w, a, b in zip(weights, s, t, strict=True))
                found.append(total / (sum(weights) + 1e-5))
    return sum(found) / len(found) / 2


def dice(tokens: Tensor, teacher: Tensor) -> float:
    """Overlap of the masks of two tokens, mean over ordered pairs and images."""
    found = []
    for image in teacher:
        masks = [mask(token, image) for token in tokens]
        for i, a in enumerate(masks):
            for j, b in enumerate(masks):
                if i != j:
                    shared = sum(x * y for x, y in zip(a, b, strict=True))
                    found.append(2 * shared / (sum(x * x for x in a) + sum(y * y for y in b)))
    return sum(found) / len(found)


def task(tokens: Tensor, teacher: Tensor, targets: Tensor) -> float:
    """Cross-entropy of the masked scores at targets B,H,W of the scores' own size."""
    found = []
    for image, labels in zip(teacher, targets.flatten(1).tolist(), strict=True):
        weights = [sum(parts) for parts in zip(*(mask(token, image) for token in tokens), strict=True)]
        for vector, weight, label in zip(image.flatten(1).T.tolist(), weights, labels, strict=True):
            if 0 <= label < len(vector):
                powers = [math.exp(weight * score) for score in vector]
                found.append(-math.log(powers[label] / sum(powers)))
    return sum(found) / len(found)


def weights(teacher: Tensor, first: tuple[Tensor, Tensor], last: tuple[Tensor, Tensor]) -> list[float]:
    """How much each token counts in a map C,H,W: a 3x3 and a 1x1 convolution, the mean over positions between."""
    kernel, bias = first
    channels, height, width = teacher.shape
    means = []
    for out in range(channels):
        total = 0.0
        for y in range(height):
            for x in range(width):
                total += float(bias[out])
                for dy in (-1, 0, 1):
                    for dx in (-1, 0, 1):
                        if 0 <= y + dy < height and 0 <= x + dx < width:
                            total += float(kernel[out, :, dy + 1, dx + 1] @ teacher[:, y + dy, x + dx])
        means.append(total / (height * width))
    scores = [
        sum(float(a) * b for a, b in zip(row, means, strict=True)) + float(c) for row, c in zip(*last, strict=True)
    ]
    powers = [math.exp(score) for score in scores]
    return [power / sum(powers) for power in powers]


def level_error(tokens: Tensor, shares: list[list[float]], student: Tensor, teacher: Tensor, customised: bool) -> float:
    """A pyramid level's term for maps B,C,H,W, whose tokens count `shares` in each image."""
    found = []
    for image_s, image_t, of_image in zip(student, teacher, shares, strict=True):
        total = 0.0
        for token, share in zip(tokens, of_image, strict=True):
            masks = mask(token, image_t)
            if customised:
                masks = [a * b for a, b in zip(masks, mask(token, image_s), strict=True)]
            channels = []
            for s, t in zip(image_s.flatten(1).tolist(), image_t.flatten(1).tolist(), strict=True):
                channels.append(sum((w * (a - b)) ** 2 for w, a, b in zip(masks, s, t, strict=True)) / sum(masks))
            total += share * sum(channels) / len(channels)
        found.append(total)
    return sum(found) / len(found)


def lost(tokens: Tensor, shares: list[list[float]], teacher: Tensor) -> float:
    """What masks, weighted and added up, lose of maps B,C,H,W."""
    gone = whole = 0.0
    for image, of_image in zip(teacher, shares, strict=True):
        masks = [mask(token, image) for token in tokens]
        for position, vector in enumerate(image.flatten(1).T.tolist()):
            kept = sum(share * m[position] for share, m in zip(of_image, masks, strict=True))
            gone += sum((value - kept * value) ** 2 for value in vector)
            whole += sum(value**2 for value in vector)
    return gone / whole
