"""PSPNet for Cityscapes as CIRKD defines it (Zhao et al., 2017, arXiv 1612.01105; Yang et al., arXiv 2204.06986).

From github winycg/CIRKD @ 8af83a9, models/pspnet.py, names in the state dict included.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.models.cirkd.deeplabv3 import backbone_taps
from benchmark.models.cirkd.resnet import DilatedResNet, FCNHead
from benchmark.models.taps import Adapter, Tap

MODELS = {"pspnet_resnet18": {"depth": 18, "width": 128}}

SIDES = (1, 2, 3, 6)  # of the pooled maps


class PyramidPooling(nn.Module):
    """The pyramid pooling module, which joins a map and its pooled views: B,C,H,W to B,2C,H,W."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4 = (
            nn.Sequential(
                nn.Conv2d(channels, channels // 4, 1, bias=False),
                nn.BatchNorm2d(channels // 4),
                nn.ReLU(inplace=True),
            )
            for _ in SIDES
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the map joined with its views, from coarse to fine: B,2C,H,W."""
        views = [x]
        for side, convolution in zip(SIDES, (self.conv1, self.conv2, self.conv3, self.conv4), strict=True):
            view = convolution(F.adaptive_avg_pool2d(x, side))
            views.append(F.interpolate(view, x.shape[2:], mode="bilinear", align_corners=True))
        return torch.cat(views, dim=1)


class PSPHead(nn.Module):
    """The main head, B,C,H,W to B,classes,H,W; the feature that methods see is the input of the classifier."""

    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.psp = PyramidPooling(channels)
        self.block = nn.Sequential(
            nn.Conv2d(2 * channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Dropout(0.1),
        )
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores B,classes,H,W."""
        logits: Tensor = self.classifier(self.block(self.psp(x)))
        return logits


class PSPNet(nn.Module):
    """The PSPNet network, B,3,H,W to B,classes,H/8,W/8: class scores before upsampling."""

    def __init__(self, classes: int, depth: int, width: int) -> None:
        super().__init__()
        self.pretrained = DilatedResNet(depth)
        self.head = PSPHead(self.pretrained.channels, width, classes)
        self.auxlayer = FCNHead(self.pretrained.channels // 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores of the main head.

        The auxiliary head runs for its tap, as the source does in evaluation too.
        """
        third, last = self.pretrained(x)
        self.auxlayer(third)
        logits: Tensor = self.head(last)
        return logits


def build(name: str, classes: int, depth: int, width: int) -> nn.Module:
    """Build the network with fresh weights."""
    return PSPNet(classes, depth, width)


def adapter(network: nn.Module) -> Adapter:
    """Return the taps: stages, auxiliary class scores, the head's feature after its dropout, and the class scores."""
    taps = backbone_taps(is_resnet=True)
    taps["seg_feature"] = Tap("head.block")
    taps["seg_logits"] = Tap("head.classifier")
    return Adapter(taps, classifier="head.classifier")
