"""Random erasing: boxes are drawn with an image's other choices; noise is filled in on the device, by batch."""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor

# Zhong et al., "Random Erasing Data Augmentation", with timm's numbers, which image_classification_sota shares
_AREA = (0.02, 1 / 3)
_ASPECT = (0.3, 1 / 0.3)
_TRIES = 10
NOTHING = (0, 0, 0, 0)  # the box of an image that is left whole


def erasing_box(draw: random.Random, probability: float, size: int) -> tuple[int, int, int, int]:
    """Draw the box to erase in a square image: top, left, height, width. A height of 0 erases nothing.

    The choices, in number and order, are those of timm's RandomErasing with one box an image.
    """
    if draw.random() > probability:
        return NOTHING
    low, high = map(math.log, _ASPECT)
    for _ in range(_TRIES):
        area = draw.uniform(*_AREA) * size * size
        aspect = math.exp(draw.uniform(low, high))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if height < size and width < size:
            return draw.randint(0, size - height), draw.randint(0, size - width), height, width
    return NOTHING


def erased(inputs: Tensor, boxes: Tensor, generator: torch.Generator) -> Tensor:
    """Return normalised images B,3,H,W with standard normal noise in each image's box (B,4: top, left, height, width).

    Each pixel and colour gets its own noise value: timm's mode `pixel`, the one of the recipes. No step waits for the
    device.
    """
    noise = torch.empty_like(inputs).normal_(generator=generator)
    top, left, height, width = (boxes[:, i, None] for i in range(4))
    rows = torch.arange(inputs.shape[2], device=inputs.device)
    columns = torch.arange(inputs.shape[3], device=inputs.device)
    inside = ((rows >= top) & (rows < top + height))[:, :, None] & ((columns >= left) & (columns < left + width))[
        :, None
    ]
    return torch.where(inside[:, None], noise, inputs)
