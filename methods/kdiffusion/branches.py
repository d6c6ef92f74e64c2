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
    """m convolutions with a batch norm each, side by side on one input. They stand in the convolution's place."""

    def __init__(self, convolution: nn.Conv2d, norm: _BatchNorm, count: int, initial: Initial) -> None:
        super().__init__()
        convolutions = [copy.deepcopy(convolution) for _ in range(count)]
        if initial == "independent":
            for fresh in convolutions[1:]:  # the first keeps the values that it would have without this method
                _redraw(fresh.weight)
        self.convolutions = nn.ModuleList(convolutions)
        self.norms = nn.ModuleList(copy.deepcopy(norm) for _ in range(count))

    def forward(self, inputs: Tensor) -> Tensor:
        """B,C_in,H,W -> B,m C,H,W, branch after branch."""
        each = zip(self.convolutions, self.norms, strict=True)
        return torch.cat([norm(convolution(inputs)) for convolution, norm in each], dim=1)

    def merged(self) -> tuple[nn.Conv2d, _BatchNorm]:
        """One convolution and one batch norm that give the average of the branches in eval mode, equation (7).

        What the norms do is in the weights and in the new norm's bias: it has mean 0, variance 1.
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


class Average(nn.Module):
    """The mean of m features, equation (15). It stands in the batch norm's place."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, features: Tensor) -> Tensor:
        """B,m C,H,W -> B,C,H,W."""
        batch, channels, *size = features.shape
        return features.view(batch, self.count, channels // self.count, *size).mean(dim=1)


def _redraw(weight: Tensor) -> None:
    """New normal values of the same spread, whatever rule the network's family drew the old ones by."""
    with torch.no_grad():
        weight.copy_(torch.randn_like(weight) * weight.std())


def _folded(convolution: nn.Conv2d, norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution that equals both in eval mode, in float64."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = -norm.running_mean.double() if convolution.bias is None else convolution.bias - norm.running_mean.double()
    return convolution.weight.double() * scale.view(-1, 1, 1, 1), norm.bias.double() + scale * bias
