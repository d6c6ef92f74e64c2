"""ImageNet ShuffleNet V1, width 1, three groups (Zhang et al., 2018, arXiv 1707.01083).

As the paper has it: the inner width is a quarter of the unit's output, and no ReLU follows the depthwise convolution.
The CIFAR network of the RepDistiller line differs in both.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.models.taps import Adapter, Tap

MODELS = {"shufflenet_v1": {"widths": (240, 480, 960), "units": (4, 8, 4), "groups": 3}}

STEM = 24


class Unit(nn.Module):
    """The ShuffleNet unit, B,C_in,H,W to B,C,H/stride,W/stride.

    Stride 2 joins the pooled input, stride 1 adds the input.
    """

    def __init__(self, channels_in: int, channels: int, stride: int, groups: int) -> None:
        super().__init__()
        inner, out = channels // 4, channels if stride == 1 else channels - channels_in
        # The paper's rule: so few channels enter the first unit that its 1x1 convolution is not grouped.
        first_groups = 1 if channels_in == STEM else groups
        self.main = nn.Sequential(
            nn.Conv2d(channels_in, inner, 1, groups=first_groups, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.ChannelShuffle(groups),
            nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.Conv2d(inner, out, 1, groups=groups, bias=False),
            nn.BatchNorm2d(out),
        )
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the last ReLU, whose input is the pre-activation."""
        out = self.main(x)
        joined = x + out if self.pool is None else torch.cat((self.pool(x), out), dim=1)
        rectified: Tensor = self.relu(joined)
        return rectified


class ShuffleNetV1(nn.Module):
    """The ShuffleNet V1 network: B,3,H,W to B,classes."""

    def __init__(self, classes: int, widths: tuple[int, int, int], units: tuple[int, int, int], groups: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, STEM, 3, 2, 1, bias=False), nn.BatchNorm2d(STEM), nn.ReLU())
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        stages, channels = [], STEM
        for width, count in zip(widths, units, strict=True):
            later = [Unit(width, width, 1, groups) for _ in range(count - 1)]
            stages.append(nn.Sequential(Unit(channels, width, 2, groups), *later))
            channels = width
        self.stages = nn.Sequential(*stages)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores B,classes."""
        logits: Tensor = self.fc(self.avgpool(self.stages(self.maxpool(self.stem(x)))).flatten(1))
        return logits


def build(name: str, classes: int, widths: tuple[int, int, int], units: tuple[int, int, int], groups: int) -> nn.Module:
    """Build the network with fresh weights."""
    return ShuffleNetV1(classes, widths, units, groups)


def adapter(network: nn.Module) -> Adapter:
    """Return the taps: stages after their last ReLU, pre-activations before it.

    A pre-activation is a sum, so no single batch norm makes it.
    """
    assert isinstance(network, ShuffleNetV1)
    taps = {"stem": Tap("stem")}
    for index, stage in enumerate(network.stages):
        assert isinstance(stage, nn.Sequential)
        taps[f"stage{index + 1}"] = Tap(f"stages.{index}")
        taps[f"stage{index + 1}.preact"] = Tap(f"stages.{index}.{len(stage) - 1}.relu", at="input")
    taps["pre_pool"] = Tap("avgpool", at="input")
    taps["embedding"] = Tap("fc", at="input")
    taps["logits"] = Tap("fc")
    return Adapter(taps, classifier="fc")
