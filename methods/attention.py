"""Attention weights of each position and channel of a feature map, and masks of its objects (after FGD)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from methods.base import ImageSize


def spatial_attention(features: Tensor, temperature: float) -> Tensor:
    """Return attention weights B,1,H,W of a map B,C,H,W: `H W softmax(mean_c |f| / T)` over positions, 1 on average."""
    strength = features.abs().mean(dim=1, keepdim=True)
    return strength.numel() // len(strength) * (strength.flatten(1) / temperature).softmax(dim=1).view_as(strength)


def channel_attention(features: Tensor, temperature: float) -> Tensor:
    """Return attention weights B,C,1,1 of a map B,C,H,W: `C softmax(mean_hw |f| / T)` over channels, 1 on average."""
    strength = features.abs().mean(dim=(2, 3), keepdim=True)
    return strength.shape[1] * (strength / temperature).softmax(dim=1)


def object_masks(images: Sequence[tuple[Tensor, ImageSize]], features: Tensor) -> tuple[Tensor, Tensor]:
    """Return foreground and background weights of a batch's positions, each B,1,H,W, for features B,C,H,W.

    A box covers the cells from the floor of its low edges to the ceiling of its high ones, and gives each of them one
    over the number of its cells; where boxes overlap, the smallest counts. The background's weights add up to 1 in
    every image that has any. As FGD does, boxes are scaled by the image's size without its padding.
    """
    masks = torch.stack([_foreground(boxes.to(features), size.real, features) for boxes, size in images])[:, None]
    background = (masks == 0).to(features.dtype)
    return masks, background / background.sum(dim=(2, 3), keepdim=True).clamp(min=1)


def _foreground(boxes: Tensor, size: tuple[int, int], features: Tensor) -> Tensor:
    height, width = features.shape[-2:]
    left, top, right, bottom = (boxes / boxes.new_tensor(size[::-1] * 2) * boxes.new_tensor((width, height) * 2)).T
    # Cells are whole numbers, and their inverse is taken in float32 as in the released code: float64 moves it by 1e-8.
    left, top, right, bottom = left.floor().float(), top.floor().float(), right.ceil().float(), bottom.ceil().float()
    weights = 1 / (bottom + 1 - top) / (right + 1 - left)
    inside = _between(top, bottom, height)[:, :, None] & _between(left, right, width)[:, None, :]
    nothing = features.new_zeros(1, height, width)  # an image may have no object
    return torch.cat((nothing, weights[:, None, None].to(features) * inside)).amax(dim=0)


def _between(low: Tensor, high: Tensor, cells: int) -> Tensor:
    positions = torch.arange(cells, device=low.device)
    return (low[:, None] <= positions) & (positions <= high[:, None])
