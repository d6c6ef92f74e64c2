"""DeepLabV3 for Cityscapes as CIRKD defines it (Chen et al., 2017, arXiv 1706.05587; Yang et al., arXiv 2204.06986).

From github winycg/CIRKD @ 8af83a9, models/deeplabv3.py and deeplabv3_mobile.py, names in the state dict included. These
are the networks of DiffKD's Table 6; those of MMSegmentation with the same names are others.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.models.cirkd.mobilenetv2 import CHANNELS, DilatedMobileNetV2
from benchmark.models.cirkd.resnet import DilatedResNet, FCNHead
from benchmark.models.taps import Adapter, Tap

MODELS = {
    "deeplabv3_resnet101": {"depth": 101, "width": 256},
    "deeplabv3_resnet18": {"depth": 18, "width": 128},
    "deeplabv3_mobilenetv2": {"depth": None, "width": 128},
}

RATES = (12, 24, 36)  # dilations of the pyramid's 3x3 branches


def _branch(channels: int, out: int, kernel: int = 1, dilation: int = 1) -> tuple[nn.Module, ...]:
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(channels, out, kernel, padding=padding, dilation=dilation, bias=False)
    return convolution, nn.BatchNorm2d(out), nn.ReLU(inplace=True)


class _Dilated(nn.Module):
    def __init__(self, channels: int, out: int, rate: int) -> None:
        super().__init__()
        self.block = nn.Sequential(*_branch(channels, out, 3, rate))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x)
        return out


class _Pooled(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.gap = nn.Sequential(nn.AdaptiveAvgPool2d(1), *_branch(channels, out))

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.gap(x), x.shape[2:], mode="bilinear", align_corners=True)


class SpatialPyramid(nn.Module):
    """The atrous spatial pyramid: five views of one map, joined and projected to one width: B,C,H,W to B,out,H,W."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.b0 = nn.Sequential(*_branch(channels, out))
        self.b1, self.b2, self.b3 = (_Dilated(channels, out, rate) for rate in RATES)
        self.b4 = _Pooled(channels, out)
        self.project = nn.Sequential(*_branch(5 * out, out), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Return the projected views B,out,H,W."""
        views = [branch(x) for branch in (self.b0, self.b1, self.b2, self.b3, self.b4)]
        out: Tensor = self.project(torch.cat(views, dim=1))
        return out


class DeepLabHead(nn.Module):
    """The main head, B,C,H,W to B,classes,H,W; the feature that methods see is the input of the last convolution."""

    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.aspp = SpatialPyramid(channels, width)
        self.block = nn.Sequential(*_branch(width, width, 3), nn.Dropout(0.1), nn.Conv2d(width, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores B,classes,H,W."""
        logits: Tensor = self.block(self.aspp(x))
        return logits


class DeepLabV3(nn.Module):
    """The DeepLabV3 network, B,3,H,W to B,classes,H/8,W/8: class scores before upsampling."""

    def __init__(self, classes: int, depth: int | None, width: int) -> None:
        super().__init__()
        self.pretrained: nn.Module
        self.auxlayer: FCNHead | None = None
        if depth is None:
            self.pretrained = DilatedMobileNetV2()
            channels = CHANNELS
        else:
            self.pretrained = DilatedResNet(depth)
            channels = self.pretrained.channels
            self.auxlayer = FCNHead(channels // 2, classes)
        self.head = DeepLabHead(channels, width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores of the main head.

        The auxiliary head runs for its tap, as the source does in evaluation too.
        """
        if self.auxlayer is None:
            last = self.pretrained(x)
        else:
            third, last = self.pretrained(x)
            self.auxlayer(third)
        logits: Tensor = self.head(last)
        return logits


def build(name: str, classes: int, depth: int | None, width: int) -> nn.Module:
    """Build one network with fresh weights."""
    return DeepLabV3(classes, depth, width)


def adapter(network: nn.Module) -> Adapter:
    """Return the taps: stages, auxiliary scores (ResNets only), the head's feature after dropout, class scores."""
    taps = backbone_taps(isinstance(network.get_submodule("pretrained"), DilatedResNet))
    taps["seg_feature"] = Tap("head.block.3")
    taps["seg_logits"] = Tap("head.block.4")
    return Adapter(taps, classifier="head.block.4")


def backbone_taps(is_resnet: bool) -> dict[str, Tap]:
    """Return the taps of the backbone's stages, and of the auxiliary head that the ResNets have."""
    if is_resnet:
        taps = {f"stage{number}": Tap(f"pretrained.layer{number}") for number in range(1, 5)}
        return taps | {"aux_logits": Tap("auxlayer")}
    ends = (3, 6, 13, 17)  # the last block of each width that the classification network halves the map at
    return {f"stage{number}": Tap(f"pretrained.net.features.{index}") for number, index in enumerate(ends, 1)}
