"""Random images of CIFAR-100's size, where only shapes and speed matter."""

from __future__ import annotations

import torch

from benchmark.data.augment import CIFAR_MEAN, CIFAR_STD
from benchmark.data.cifar import Dataset, Split
from benchmark.data.on_device import DeviceData

IMAGES, SIDE = 32, 32


def noise(images: int = IMAGES, device: torch.device | str = "cpu") -> DeviceData:
    """Return random images of CIFAR-100's size, for checks where only shapes and speed matter."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, 3, SIDE, SIDE), generator=draw, dtype=torch.uint8)
    split = Split(pixels, torch.arange(images) % 100).to(device)
    dataset = Dataset(split, split, "noise", {"name": "noise"}, generated=True)
    return DeviceData(
        dataset, split, split, torch.tensor(CIFAR_MEAN, device=device), torch.tensor(CIFAR_STD, device=device)
    )
