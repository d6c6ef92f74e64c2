"""Mixup and CutMix of a batch on the device, as timm's Mixup does them, with choices from their own seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_SWITCH = 0.5  # chance of CutMix where both are on: timm's, and image_classification_sota's


@dataclass(frozen=True)
class Mixing:
    """The random choice of one batch: the share that each image keeps, and for CutMix the box that is replaced."""

    share: float
    box: tuple[int, int, int, int] | None = None  # top, bottom, left, right


def draw_mixing(seed: int, mixup: float, cutmix: float, height: int, width: int) -> Mixing:
    """Draw the choice for one batch of H,W images. `mixup` and `cutmix` are the alphas of their Beta; 0 disables one.

    The choices, in number and order, are those of timm's Mixup in mode `batch` with probability 1. Legacy numpy
    generators are frozen, so a seed means the same in every version.
    """
    draw = np.random.RandomState(seed & 0xFFFFFFFF)
    draw.rand()  # timm first asks whether to mix at all
    cuts = draw.rand() < _SWITCH if mixup > 0 and cutmix > 0 else cutmix > 0
    alpha = cutmix if cuts else mixup
    share = float(draw.beta(alpha, alpha))
    if not cuts:
        return Mixing(share)
    tall, wide = int(height * np.sqrt(1 - share)), int(width * np.sqrt(1 - share))
    row, column = int(draw.randint(0, height)), int(draw.randint(0, width))
    top, bottom = max(row - tall // 2, 0), min(row + (tall + 1) // 2, height)
    left, right = max(column - wide // 2, 0), min(column + (wide + 1) // 2, width)
    # the box may have been cut by the border: the share is what is really left
    return Mixing(1.0 - (bottom - top) * (right - left) / (height * width), (top, bottom, left, right))


def mixed(inputs: Tensor, mixing: Mixing) -> Tensor:
    """Return each image of B,C,H,W mixed with the image at the same position counted from the end."""
    partners = inputs.flip(0)
    if mixing.box is None:
        return inputs.mul(mixing.share).add_(partners.mul_(1.0 - mixing.share))
    top, bottom, left, right = mixing.box
    result = inputs.clone()
    result[:, :, top:bottom, left:right] = partners[:, :, top:bottom, left:right]
    return result


def mixed_targets(targets: Tensor, classes: int, mixing: Mixing) -> Tensor:
    """Return targets B as probabilities B,classes, mixed like the images.

    Targets are not smoothed here: cross-entropy with `label_smoothing` smooths probabilities as it does classes, and
    the result is timm's smoothed and mixed target exactly.
    """
    hot = F.one_hot(targets, classes).float()
    return torch.lerp(hot.flip(0), hot, mixing.share)
