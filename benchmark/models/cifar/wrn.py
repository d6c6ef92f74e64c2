"""CIFAR wide ResNet: three stages of pre-activation blocks (Zagoruyko and Komodakis, 2016, arXiv 1605.07146).

As RepDistiller and mdistiller define them, names in the state dict included: `(depth - 4) / 6` blocks a stage and no
dropout.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from benchmark.models.cifar.resnet import initialise_convolutions
from benchmark.models.taps import Adapter, Tap

MODELS = {
    "wrn_16_1": {"depth": 16, "widening": 1},
    "wrn_16_2": {"depth": 16, "widening": 2},
    "wrn_40_1": {"depth": 40, "widening": 1},
    "wrn_40_2": {"depth": 40, "widening": 2},
}


class PreActivationBlock(nn.Module):
    """The pre-activation block, two 3x3 convolutions after their norms: B,C_in,H,W to B,C,H/stride,W/stride."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.convShortcut = None
        if channels_in != channels:
            self.convShortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum before any ReLU.

        A projected shortcut starts after the first ReLU, a plain one before the batch norm.
        """
        rectified = self.relu1(self.bn1(x))
        shortcut = x if self.convShortcut is None else self.convShortcut(rectified)
        residual: Tensor = self.conv2(self.relu2(self.bn2(self.conv1(rectified))))
        return shortcut + residual


class WideResNet(nn.Module):
    """The CIFAR wide ResNet network: B,3,H,W to B,classes."""

    def __init__(self, classes: int, depth: int, widening: int) -> None:
        super().__init__()
        first, second, third = (widening * channels for channels in (16, 32, 64))
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = _stage(16, first, blocks, stride=1)
        self.block2 = _stage(first, second, blocks, stride=2)
        self.block3 = _stage(second, third, blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(third)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(third, classes)
        initialise_convolutions(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores B,classes."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        x = self.relu(self.bn1(x))
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def _stage(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    later = [PreActivationBlock(channels, channels, 1) for _ in range(blocks - 1)]
    layer = nn.Sequential(PreActivationBlock(channels_in, channels, stride), *later)
    return nn.Sequential(OrderedDict(layer=layer))


def build(name: str, classes: int, depth: int, widening: int) -> nn.Module:
    """Build one network with fresh weights."""
    return WideResNet(classes, depth, widening)


def adapter(network: nn.Module) -> Adapter:
    """Return the taps: stages before the next batch norm, pre-activations after it, both from one call of that norm.

    mdistiller calls these norms a second time instead, which in training moves their running statistics twice a step.
    """
    next_norm = {1: "block2.layer.0.bn1", 2: "block3.layer.0.bn1", 3: "bn1"}
    taps = {"stem": Tap("conv1")}
    for number, norm in next_norm.items():
        taps[f"stage{number}"] = Tap(f"block{number}")
        taps[f"stage{number}.preact"] = Tap(norm, norm=norm)
    taps["pre_pool"] = Tap("avgpool", at="input")
    taps["embedding"] = Tap("fc", at="input")
    taps["logits"] = Tap("fc")
    return Adapter(taps, classifier="fc")
