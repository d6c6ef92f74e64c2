"""VID for one stage, position by position."""

import math

import torch
from torch import Tensor


def prediction(pixel: list[float], weights: list[list[list[float]]]) -> list[float]:
    """Three linear maps over channels, with ReLU between them."""
    for depth, matrix in enumerate(weights):
        pixel = [sum(w * x for w, x in zip(line, pixel, strict=True)) for line in matrix]
        if depth < 2:
            pixel = [max(x, 0.0) for x in pixel]
    return pixel


def loss(student: Tensor, teacher: Tensor, weights: list[Tensor], log_scale: Tensor) -> float:
    """Maps B,C,H,W of one size; 1x1 convolution weights T,C,1,1."""
    matrices = [weight.reshape(weight.shape[:2]).tolist() for weight in weights]
    variances = [math.log(1 + math.exp(x)) + 1e-5 for x in log_scale.tolist()]
    total, count = 0.0, 0
    for b, y, x in torch.cartesian_prod(*(torch.arange(student.shape[d]) for d in (0, 2, 3))).tolist():
        mean = prediction(student[b, :, y, x].tolist(), matrices)
        for mu, truth, variance in zip(mean, teacher[b, :, y, x].tolist(), variances, strict=True):
            total += 0.5 * ((mu - truth) ** 2 / variance + math.log(variance))
            count += 1
    return total / count
