"""What networks cost: parameters and multiply-adds under named conventions."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def parameters(network: nn.Module) -> int:
    """Trainable and frozen parameters, buffers left out."""
    return sum(p.numel() for p in network.parameters())


def macs(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Multiply-adds of convolutions and matrix products in one forward pass of an input of this shape.

    Torch's own counter on the meta device: no arithmetic is done, dilation is honoured, element-wise operations and
    pooling count nothing.
    """
    meta = network.to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        meta(torch.empty(shape, device="meta"))
    return int(counter.get_total_flops()) // 2
