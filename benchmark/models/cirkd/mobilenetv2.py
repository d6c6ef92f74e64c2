"""The dilated MobileNetV2 of CIRKD's segmentation networks: output stride 8, names of its state dict included.

From github winycg/CIRKD @ 8af83a9, models/base_models/mobilenetv2.py; without the last 1x1 convolution to 1280.
"""

from __future__ import annotations

from torch import Tensor, nn

from benchmark.models.cifar.resnet import initialise_convolutions

STEM, CHANNELS = 32, 320
# Expansion, channels, blocks, stride and dilation of each group; the stride's place is taken by dilation from the
# fourth group on, where the source keeps output stride 8.
GROUPS = (
    (1, 16, 1, 1, 1),
    (6, 24, 2, 2, 1),
    (6, 32, 3, 2, 1),
    (6, 64, 4, 1, 2),
    (6, 96, 3, 1, 2),
    (6, 160, 3, 1, 4),
    (6, 320, 1, 1, 4),
)


class InvertedResidual(nn.Module):
    """The inverted residual block: expand, filter by channel, project linearly: B,C_in,H,W to B,C,H/stride,W/stride."""

    def __init__(self, channels: int, out: int, expansion: int, stride: int, dilation: int) -> None:
        super().__init__()
        inner = channels * expansion
        expand = [] if expansion == 1 else [nn.Conv2d(channels, inner, 1, bias=False), *_norm(inner)]
        self.conv = nn.Sequential(
            *expand,
            nn.Conv2d(inner, inner, 3, stride, dilation, dilation, groups=inner, bias=False),
            *_norm(inner),
            nn.Conv2d(inner, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.has_shortcut = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output B,C,H/stride,W/stride. No ReLU follows."""
        out: Tensor = self.conv(x)
        return x + out if self.has_shortcut else out


def _norm(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels), nn.ReLU6(inplace=True)


class _Features(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = [nn.Sequential(nn.Conv2d(3, STEM, 3, 2, 1, bias=False), *_norm(STEM))]
        channels = STEM
        before = 1  # the dilation of the resolution that a group comes from, kept by its first convolution
        for expansion, out, count, stride, dilation in GROUPS:
            for number in range(count):
                first = number == 0
                own = before if first else dilation
                blocks.append(InvertedResidual(channels, out, expansion, stride if first else 1, own))
                channels = out
            before = dilation
        self.features = nn.Sequential(*blocks)


class DilatedMobileNetV2(nn.Module):
    """The dilated MobileNetV2 backbone: B,3,H,W to B,320,H/8,W/8."""

    def __init__(self) -> None:
        super().__init__()
        self.net = _Features()
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the last map B,320,H/8,W/8."""
        out: Tensor = self.net.features(x)
        return out
