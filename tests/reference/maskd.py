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
