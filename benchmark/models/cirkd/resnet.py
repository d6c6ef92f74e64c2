"""The dilated ResNet of CIRKD's segmentation networks: a deep stem, output stride 8, names of its state dict included.

From github winycg/CIRKD @ 8af83a9, models/base_models/resnetv1b.py: the variant called v1s.
"""

from __future__ import annotations

from torch import Tensor, nn

from benchmark.models.cifar.resnet import initialise_convolutions

BLOCKS = {18: (2, 2, 2, 2), 101: (3, 4, 23, 3)}
WIDTHS = (64, 128, 256, 512)
STRIDES = (1, 2, 1, 1)
DILATIONS = (1, 1, 2, 4)
STEM = 128


def _conv3x3(channels: int, out: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, stride, padding=dilation, dilation=dilation, bias=False)


class Block(nn.Module):
    """A residual block, B,C_in,H,W to B,C,H/stride,W/stride.

    `dilation` is that of the first 3x3 convolution, `later` that of the second, which a bottleneck does not have.
    """

    expansion: int

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = width * self.expansion
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def residual(self, x: Tensor) -> Tensor:
        """Return the residual, which is added to the shortcut."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the last ReLU."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(self.residual(x) + shortcut)
        return out


class BasicBlock(Block):
    """The residual block of two 3x3 convolutions."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int, dilation: int, later: int) -> None:
        super().__init__(channels, width, stride)
        self.conv1 = _conv3x3(channels, width, stride, dilation)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, 1, later)
        self.bn2 = nn.BatchNorm2d(width)

    def residual(self, x: Tensor) -> Tensor:
        """Return the residual, which is added to the shortcut."""
        out: Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return out


class Bottleneck(Block):
    """The residual block of 1x1, 3x3 and 1x1 convolutions."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int, dilation: int, later: int) -> None:
        super().__init__(channels, width, stride)
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, stride, dilation)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)

    def residual(self, x: Tensor) -> Tensor:
        """Return the residual, which is added to the shortcut."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        expanded: Tensor = self.bn3(self.conv3(out))
        return expanded


class DilatedResNet(nn.Module):
    """The dilated ResNet backbone: B,3,H,W to the outputs of the last two stages, both at H/8,W/8."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        block = BasicBlock if depth == 18 else Bottleneck
        self.conv1, self.bn1, self.relu1 = _conv3x3(3, 64, 2), nn.BatchNorm2d(64), nn.ReLU(inplace=True)
        self.conv2, self.bn2, self.relu2 = _conv3x3(64, 64), nn.BatchNorm2d(64), nn.ReLU(inplace=True)
        self.conv3, self.bn3, self.relu3 = _conv3x3(64, STEM), nn.BatchNorm2d(STEM), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages, channels = [], STEM
        for width, count, stride, dilation in zip(WIDTHS, BLOCKS[depth], STRIDES, DILATIONS, strict=True):
            # A stage's first convolution still has the dilation of the resolution that it comes from.
            units: list[nn.Module] = [block(channels, width, stride, max(1, dilation // 2), dilation)]
            channels = width * block.expansion
            units += [block(channels, width, 1, dilation, dilation) for _ in range(count - 1)]
            stages.append(nn.Sequential(*units))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.channels = channels
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return stage 3, which the auxiliary head reads, and stage 4."""
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        x = self.maxpool(self.relu3(self.bn3(self.conv3(x))))
        third = self.layer3(self.layer2(self.layer1(x)))
        return third, self.layer4(third)


class FCNHead(nn.Module):
    """The auxiliary head, B,C,H,W to B,classes,H,W: a 3x3 block of a quarter of the channels, and a classifier."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        inner = channels // 4
        self.block = nn.Sequential(
            _conv3x3(channels, inner),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Dropout(0.1),
            nn.Conv2d(inner, classes, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores B,classes,H,W."""
        logits: Tensor = self.block(x)
        return logits
