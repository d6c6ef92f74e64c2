"""Augmentation of a whole batch at once on the device: pad, crop, flip, normalise, as torchvision does by image.

The random choices of an epoch are drawn on the CPU before it starts, so every device sees the same ones, and a resumed
run draws them again from their seeds instead of carrying them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.data.batches import EpochPlan
from benchmark.data.cifar import Split

# The constants of the published recipes of this line of papers (RepDistiller, and the code released with DiffKD); the
# training images' own differ by 2e-4 at most.
CIFAR_MEAN = (0.5071, 0.4867, 0.4408)
CIFAR_STD = (0.2675, 0.2565, 0.2761)
PADDING = 4  # the same recipes: a random crop of the image with four black pixels on each side, and a flip
OFFSETS = 2 * PADDING + 1  # where a crop can start, in rows and in columns


@dataclass(frozen=True)
class CropFlipPlan(EpochPlan):
    """The order of an epoch's images (N), with the crop offset (N,2: row, column) and the flip (N) of each image."""

    offsets: Tensor
    flips: Tensor

    def __getitem__(self, part: slice) -> CropFlipPlan:
        """Return a part of the epoch as views; nothing is copied."""
        return CropFlipPlan(self.order[part], self.offsets[part], self.flips[part])

    def to(self, device: torch.device | str) -> CropFlipPlan:
        """Return this plan with its tensors on a device."""
        return CropFlipPlan(self.order.to(device), self.offsets.to(device), self.flips.to(device))


def plan_epoch(size: int, order_seed: int, augment_seed: int) -> CropFlipPlan:
    """Draw one epoch over `size` images, on the CPU. The two seeds keep the order independent of the augmentation."""
    order = torch.randperm(size, generator=torch.Generator().manual_seed(order_seed))
    choices = torch.Generator().manual_seed(augment_seed)
    offsets = torch.randint(OFFSETS, (size, 2), generator=choices)
    flips = torch.randint(2, (size,), generator=choices) == 1
    return CropFlipPlan(order, offsets, flips)


def augmented(split: Split, batch: CropFlipPlan, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Return inputs B,3,32,32 float32 and labels B for one batch of a plan. All tensors are on one device."""
    return crop_flip(split.images[batch.order], batch.offsets, batch.flips, mean, std), split.labels[batch.order]


def crop_flip(images: Tensor, offsets: Tensor, flips: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Pad uint8 images B,3,H,W with black, crop H,W at each image's offset, flip where the plan says so, and normalise.

    `offsets` B,2 int64 in [0, 8], row then column; `flips` B bool, applied after the crop; `mean` and `std` of shape 3.
    No step waits for the device.
    """
    batch, channels, height, width = images.shape
    padded = F.pad(images, (PADDING,) * 4)
    rows = offsets[:, :1] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(batch, width)
    columns = offsets[:, 1:] + torch.where(flips[:, None], width - 1 - columns, columns)
    # One flat gather: on a CPU twice as fast as cropping windows or gathering rows, then columns.
    places = rows[:, :, None] * padded.shape[3] + columns[:, None, :]
    places = places.view(batch, 1, -1).expand(batch, channels, -1)
    return normalise(padded.flatten(2).gather(2, places).view(images.shape), mean, std)


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return uint8 images B,3,H,W as normalised float32.

    `mean` and `std` have shape 3 and are on the images' device.
    """
    # Divided by a tensor: CUDA turns division by a plain number into a product with its rounded reciprocal.
    full = torch.full((), 255.0, device=images.device)
    return images.float().div_(full).sub_(mean[:, None, None]).div_(std[:, None, None])
