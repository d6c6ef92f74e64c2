"""What networks and methods cost: parameters, and multiply-adds under named conventions.

Everything is counted by shapes, on tensors without memory: no weights, no data, no arithmetic.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmark.errors import UsageError, nearest
from benchmark.models.registry import model
from benchmark.models.taps import Network
from methods.base import Batch, Method, Moment, Pair

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Input:
    """What a data set decides of a cost: classes, training images, the shape trained on and the shape counted on."""

    classes: int
    images: int
    trained: Shape  # C,H,W
    counted: Shape  # C,H,W


def _square(side: int) -> Shape:
    return 3, side, side


INPUTS: Mapping[str, Input] = {
    "cifar100": Input(100, 50_000, _square(32), _square(32)),
    "imagenet": Input(1000, 1_281_167, _square(224), _square(224)),
    # Any 100 classes: at most 1300 images each. Only the memories of CRD depend on it.
    "imagenet100": Input(100, 130_000, _square(224), _square(224)),
    # Trained on crops, counted on whole images (caption of Table 6).
    "cityscapes": Input(19, 2_975, (3, 512, 1024), (3, 1024, 2048)),
}


def input_of(data: str) -> Input:
    """What a data set decides of a cost, or an error that names the nearest."""
    if data not in INPUTS:
        raise UsageError(f"no image size is known for {data!r}", nearest(data, INPUTS))
    return INPUTS[data]


def parameters(network: nn.Module) -> int:
    """Trainable and frozen parameters, buffers left out."""
    return sum(p.numel() for p in network.parameters())


def macs(network: nn.Module, shape: Shape) -> int:
    """Multiply-adds of convolutions and matrix products in one forward pass of an input of this shape (B,C,H,W)."""
    with FlopCounterMode(display=False) as counter:
        _forward(network, shape)
    return int(counter.get_total_flops()) // 2


def flops(network: nn.Module, shape: Shape) -> int:
    """Operations: each multiply-add is two."""
    return 2 * macs(network, shape)


def cirkd_macs(network: nn.Module, shape: Shape) -> int:
    """Multiply-adds as CIRKD's counter has them (github winycg/CIRKD @ 8af83a9, utils/flops.py)."""
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal total
        if type(module) is nn.Conv2d:
            total += module.weight.numel() * _area_without_dilation(module, inputs[0].shape)
        elif type(module) is nn.Linear:
            total += module.weight.numel()

    _forward(network, shape, count)
    return total


def _area_without_dilation(convolution: nn.Conv2d, shape: torch.Size) -> int:
    assert not isinstance(convolution.padding, str)
    area = 1
    for axis in (0, 1):
        padded = shape[2 + axis] + 2 * convolution.padding[axis]
        area *= (padded - convolution.kernel_size[axis]) // convolution.stride[axis] + 1
    return area


def _forward(network: nn.Module, shape: Shape, before: Callable[[nn.Module, tuple[Tensor, ...]], None] | None = None):  # type: ignore[no-untyped-def]
    raise NotImplementedError
