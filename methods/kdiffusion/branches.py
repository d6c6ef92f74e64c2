"""Parallel copies of one convolution and its batch norm, averaged while training and merged into one for inference."""

from __future__ import annotations

import copy
from math import sqrt
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Initial = Literal["independent", "copies"]  # spelled out in Options, which are read without this file


class Branches(nn.Module):
    """The m parallel convolutions, each with a batch norm, on one input. They replace the original convolution."""

    def __init__(self, convolution: nn.Conv2d, norm: _BatchNorm, count: int, initial: Initial) -> None:
        super().__init__()
        convolutions = [copy.deepcopy(convolution) for _ in range(count)]
        if initial == "independent":
            for fresh in convolutions[1:]:  # the first keeps the values that it would have without this method
                _redraw(fresh.weight)
        self.convolutions = nn.ModuleList(convolutions)
        self.norms = nn.ModuleList(copy.deepcopy(norm) for _ in range(count))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the branches' outputs B,m C,H,W, one after another, for inputs B,C_in,H,W."""
        each = zip(self.convolutions, self.norms, strict=True)
        return torch.cat([norm(convolution(inputs)) for convolution, norm in each], dim=1)

    def merged(self) -> tuple[nn.Conv2d, _BatchNorm]:
        """Return one convolution and one batch norm that give the branches' average in eval mode, equation (7).

        The old norms are folded into the weights and the new norm's bias; the new norm has mean 0 and variance 1.
        """
        convolution, norm = copy.deepcopy(self._pairs()[0])
        folded = [_folded(*pair) for pair in self._pairs()]
        assert norm.running_mean is not None and norm.running_var is not None
        with torch.no_grad():
            convolution.weight.copy_(torch.stack([weight for weight, _ in folded]).mean(dim=0))
            if convolution.bias is not None:
                convolution.bias.zero_()
            norm.bias.copy_(torch.stack([bias for _, bias in folded]).mean(dim=0))
            norm.weight.fill_(sqrt(1 + norm.eps))
            norm.running_mean.zero_()
            norm.running_var.fill_(1)
        return convolution, norm

    def _pairs(self) -> list[tuple[nn.Conv2d, _BatchNorm]]:
        found = []
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            # Not always a BatchNorm2d: several GPUs train with a SyncBatchNorm in its place.
            assert isinstance(convolution, nn.Conv2d) and isinstance(norm, _BatchNorm)
            found.append((convolution, norm))
        return found


class MeanOfBranches(nn.Module):
    """The mean of m features, equation (15). It replaces the original batch norm."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, features: Tensor) -> Tensor:
        """Return the mean B,C,H,W of features B,m C,H,W."""
        batch, channels, *size = features.shape
        return features.view(batch, self.count, channels // self.count, *size).mean(dim=1)


def _redraw(weight: Tensor) -> None:
    """Draw new normal values of the same spread, whatever rule the network's family used for the old ones."""
    with torch.no_grad():
        weight.copy_(torch.randn_like(weight) * weight.std())


def _folded(convolution: nn.Conv2d, norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the one convolution that equals both in eval mode, in float64."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = -norm.running_mean.double() if convolution.bias is None else convolution.bias - norm.running_mean.double()
    return convolution.weight.double() * scale.view(-1, 1, 1, 1), norm.bias.double() + scale * bias
