"""CIFAR MobileNetV2: inverted residuals with linear bottlenecks (Sandler et al., 2018, arXiv 1801.04381).

As RepDistiller and mdistiller define it, names in the state dict included: half width, expansion 6, ReLU in place of
ReLU6, strides chosen for 32 x 32, and a 1x1 expansion also where the factor is one.
"""

from __future__ import annotations

from torch import Tensor, nn

from benchmark.models.cifar.resnet import initialise_convolutions
from benchmark.models.taps import Adapter, Tap

MODELS = {"MobileNetV2": {"width": 0.5, "expansion": 6}}

# Stride of the first block, channels at full width, blocks (RepDistiller, models/mobilenetv2.py).
STRIDES_AND_WIDTHS = (
    (1, 16, 1),
    (1, 24, 2),
    (2, 32, 3),
    (2, 64, 4),
    (1, 96, 3),
    (2, 160, 3),
    (1, 320, 1),
)
LAST = 1280  # channels of the last convolution, whatever the width below one


class InvertedResidual(nn.Module):
    """The inverted residual block, 1x1, 3x3 by channel, 1x1: B,C_in,H,W to B,C,H/stride,W/stride."""

    def __init__(self, channels_in: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels_in * expansion
        self.has_shortcut = stride == 1 and channels_in == channels
        self.conv = nn.Sequential(
            nn.Conv2d(channels_in, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output B,C,H/stride,W/stride. No ReLU follows."""
        out: Tensor = self.conv(x)
        return x + out if self.has_shortcut else out


class MobileNetV2(nn.Module):
    """The CIFAR MobileNetV2 network: B,3,H,W to B,classes."""

    def __init__(self, classes: int, width: float, expansion: int) -> None:
        super().__init__()
        channels = int(32 * width)
        self.conv1 = _convolution(3, channels, kernel=3, stride=2)
        self.blocks = nn.ModuleList()
        for number, (stride, full_width, blocks) in enumerate(STRIDES_AND_WIDTHS):
            factor = 1 if number == 0 else expansion
            first = InvertedResidual(channels, int(full_width * width), stride, factor)
            channels = int(full_width * width)
            later = [InvertedResidual(channels, channels, 1, factor) for _ in range(blocks - 1)]
            self.blocks.append(nn.Sequential(first, *later))
        self.conv2 = _convolution(channels, LAST, kernel=1, stride=1)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(linear := nn.Linear(LAST, classes))
        initialise_convolutions(self)
        nn.init.normal_(linear.weight, std=0.01)  # RepDistiller, models/mobilenetv2.py
        nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores B,classes."""
        x = self.conv1(x)
        for stage in self.blocks:
            x = stage(x)
        logits: Tensor = self.classifier(self.avgpool(self.conv2(x)).flatten(1))
        return logits


def _convolution(channels_in: int, channels: int, kernel: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


def build(name: str, classes: int, width: float, expansion: int) -> nn.Module:
    """Build the network with fresh weights."""
    return MobileNetV2(classes, width, expansion)


def adapter(network: nn.Module) -> Adapter:
    """Return the taps.

    Stages are linear, so each is its own pre-activation; `norm` is its last projection's batch norm.
    """
    assert isinstance(network, MobileNetV2)
    taps = {"stem": Tap("conv1")}
    for number, index in enumerate((1, 2, 4, 6), 1):  # four of the seven, as RepDistiller lists them
        last = STRIDES_AND_WIDTHS[index][2] - 1
        taps[f"stage{number}"] = Tap(f"blocks.{index}")
        taps[f"stage{number}.preact"] = Tap(f"blocks.{index}", norm=f"blocks.{index}.{last}.conv.7")
    taps["pre_pool"] = Tap("avgpool", at="input")
    taps["embedding"] = Tap("classifier.0", at="input")
    taps["logits"] = Tap("classifier.0")
    return Adapter(taps, classifier="classifier.0")
