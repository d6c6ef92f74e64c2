"""CIFAR ShuffleNet V1: grouped 1x1 convolutions and channel shuffles (Zhang et al., 2018, arXiv 1707.01083).

As RepDistiller and mdistiller define it, names in the state dict included: a 1x1 stem without stride, no pooling behind
it, torch's default initialisation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.models.taps import Adapter, Tap

MODELS = {"ShuffleV1": {"widths": (240, 480, 960), "blocks": (4, 8, 4), "groups": 3}}

STEM = 24


class DownUnit(nn.Module):
    """The first unit of a stage, which halves the map and joins a pooled shortcut: B,C_in,H,W to B,C,H/2,W/2."""

    def __init__(self, channels_in: int, channels: int, groups: int) -> None:
        super().__init__()
        grown = channels - channels_in
        inner = grown // 4
        # The paper's rule: so few channels enter the first unit that its 1x1 convolution is not grouped.
        first_groups = 1 if channels_in == STEM else groups
        self.conv1 = nn.Conv2d(channels_in, inner, 1, groups=first_groups, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.relu1 = nn.ReLU()
        self.shuffle1 = nn.ChannelShuffle(first_groups)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=2, padding=1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(inner, grown, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(grown)
        self.shortcut = nn.AvgPool2d(3, stride=2, padding=1)
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the last ReLU."""
        out = self.shuffle1(self.relu1(self.bn1(self.conv1(x))))
        out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        rectified: Tensor = self.relu3(torch.cat((out, self.shortcut(x)), dim=1))
        return rectified


class Unit(nn.Module):
    """A later unit of a stage, which keeps the shape B,C,H,W."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        inner = channels // 4
        self.conv1 = nn.Conv2d(channels, inner, 1, groups=groups, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.relu1 = nn.ReLU()
        self.shuffle1 = nn.ChannelShuffle(groups)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(inner, channels, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the last ReLU, whose input is the pre-activation."""
        out = self.shuffle1(self.relu1(self.bn1(self.conv1(x))))
        out = self.relu2(self.bn2(self.conv2(out)))
        rectified: Tensor = self.relu3(self.bn3(self.conv3(out)) + x)
        return rectified


class ShuffleNetV1(nn.Module):
    """The CIFAR ShuffleNet V1 network: B,3,H,W to B,classes."""

    def __init__(self, classes: int, widths: tuple[int, int, int], blocks: tuple[int, int, int], groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.relu = nn.ReLU()
        self.layer1 = _stage(STEM, widths[0], blocks[0], groups)
        self.layer2 = _stage(widths[0], widths[1], blocks[1], groups)
        self.layer3 = _stage(widths[1], widths[2], blocks[2], groups)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(widths[2], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores B,classes."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(self.avgpool(x).flatten(1))
        return logits


def _stage(channels_in: int, channels: int, blocks: int, groups: int) -> nn.Sequential:
    return nn.Sequential(DownUnit(channels_in, channels, groups), *(Unit(channels, groups) for _ in range(blocks - 1)))


def build(
    name: str, classes: int, widths: tuple[int, int, int], blocks: tuple[int, int, int], groups: int
) -> nn.Module:
    """Build the network with fresh weights."""
    return ShuffleNetV1(classes, widths, blocks, groups)


def adapter(network: nn.Module) -> Adapter:
    """Return the taps: stages after their last ReLU, pre-activations before it.

    The sources give OFD no batch norms here.
    """
    assert isinstance(network, ShuffleNetV1)
    taps = {"stem": Tap("relu")}
    for number, stage in enumerate((network.layer1, network.layer2, network.layer3), 1):
        taps[f"stage{number}"] = Tap(f"layer{number}")
        taps[f"stage{number}.preact"] = Tap(f"layer{number}.{len(stage) - 1}.relu3", at="input")
    taps["pre_pool"] = Tap("avgpool", at="input")
    taps["embedding"] = Tap("linear", at="input")
    taps["logits"] = Tap("linear")
    return Adapter(taps, classifier="linear")
