"""CIFAR ShuffleNet V2: channel splits and shuffles at width one (Ma et al., 2018, arXiv 1807.11164).

As RepDistiller and mdistiller define it, names in the state dict included: a 1x1 stem without stride, no pooling behind
it, torch's default initialisation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.models.taps import Adapter, Tap

MODELS = {"ShuffleV2": {"widths": (116, 232, 464), "last": 1024, "blocks": (3, 7, 3)}}

STEM = 24


class DownUnit(nn.Module):
    """The first unit of a stage: two branches of half the channels halve the map: B,C_in,H,W to B,C,H/2,W/2."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(channels_in, channels_in, 3, stride=2, padding=1, groups=channels_in, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv2 = nn.Conv2d(channels_in, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(channels_in, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.relu3 = nn.ReLU()
        self.conv4 = nn.Conv2d(half, half, 3, stride=2, padding=1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)
        self.relu5 = nn.ReLU()
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """Return both branches' outputs after their last ReLU, shuffled."""
        left = self.relu2(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = self.bn4(self.conv4(self.relu3(self.bn3(self.conv3(x)))))
        right = self.relu5(self.bn5(self.conv5(right)))
        shuffled: Tensor = self.shuffle(torch.cat((left, right), dim=1))
        return shuffled


class Unit(nn.Module):
    """A later unit of a stage, which transforms one half of the channels and keeps the shape B,C,H,W."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.relu3 = nn.ReLU()
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """Return both halves after the last ReLU, shuffled."""
        kept, out = x.chunk(2, dim=1)
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(out)))))
        out = self.bn3(self.conv3(out))
        # The sources rectify `out` alone. `kept` left a ReLU in an earlier unit, so rectifying both changes neither
        # values nor the gradients of the weights, and makes the sources' pre-activation a tensor of this forward pass.
        shuffled: Tensor = self.shuffle(self.relu3(torch.cat((kept, out), dim=1)))
        return shuffled


class ShuffleNetV2(nn.Module):
    """The CIFAR ShuffleNet V2 network: B,3,H,W to B,classes."""

    def __init__(self, classes: int, widths: tuple[int, int, int], last: int, blocks: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.relu1 = nn.ReLU()
        self.layer1 = _stage(STEM, widths[0], blocks[0])
        self.layer2 = _stage(widths[0], widths[1], blocks[1])
        self.layer3 = _stage(widths[1], widths[2], blocks[2])
        self.conv2 = nn.Conv2d(widths[2], last, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(last)
        self.relu2 = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores B,classes."""
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        logits: Tensor = self.linear(self.avgpool(x).flatten(1))
        return logits


def _stage(channels_in: int, channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(DownUnit(channels_in, channels), *(Unit(channels) for _ in range(blocks)))


def build(name: str, classes: int, widths: tuple[int, int, int], last: int, blocks: tuple[int, int, int]) -> nn.Module:
    """Build the network with fresh weights. `blocks` counts the units after each stage's first."""
    return ShuffleNetV2(classes, widths, last, blocks)


def adapter(network: nn.Module) -> Adapter:
    """Return the taps.

    Stages are shuffled, pre-activations are not, as in the sources, which give OFD no batch norms here.
    """
    assert isinstance(network, ShuffleNetV2)
    taps = {"stem": Tap("relu1")}
    for number, stage in enumerate((network.layer1, network.layer2, network.layer3), 1):
        taps[f"stage{number}"] = Tap(f"layer{number}")
        taps[f"stage{number}.preact"] = Tap(f"layer{number}.{len(stage) - 1}.relu3", at="input")
    taps["pre_pool"] = Tap("avgpool", at="input")
    taps["embedding"] = Tap("linear", at="input")
    taps["logits"] = Tap("linear")
    return Adapter(taps, classifier="linear")
