"""CIFAR ResNet-50: four stages of bottleneck blocks on 3 x 32 x 32 (He et al., 2016, arXiv 1512.03385).

As RepDistiller (models/resnetv2.py) and mdistiller define it, names in the state dict included: ImageNet widths
behind a 3x3 stem without stride or pooling, and the stride of a stage in its first 3x3 convolution.
"""

from __future__ import annotations

from torch import Tensor, nn

from benchmark.models.cifar.resnet import initialise_convolutions
from benchmark.models.taps import Adapter, Tap

MODELS = {"ResNet50": {"blocks": (3, 4, 6, 3)}}

EXPANSION = 4


class Bottleneck(nn.Module):
    """The bottleneck block, 1x1, 3x3, 1x1 beside a shortcut: B,C_in,H,W to B,4 inner,H/stride,W/stride."""

    def __init__(self, channels_in: int, inner: int, stride: int) -> None:
        super().__init__()
        channels = EXPANSION * inner
        self.conv1 = nn.Conv2d(channels_in, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(inner, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the last ReLU, whose input is the pre-activation."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        rectified: Tensor = self.relu3(out + self.shortcut(x))
        return rectified


class ResNet50(nn.Module):
    """The CIFAR ResNet-50 network: B,3,H,W to B,classes."""

    def __init__(self, classes: int, blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.layer1 = _stage(64, 64, blocks[0], stride=1)
        self.layer2 = _stage(256, 128, blocks[1], stride=2)
        self.layer3 = _stage(512, 256, blocks[2], stride=2)
        self.layer4 = _stage(1024, 512, blocks[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(2048, classes)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores B,classes."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.linear(self.avgpool(x).flatten(1))
        return logits


def _stage(channels_in: int, inner: int, blocks: int, stride: int) -> nn.Sequential:
    later = [Bottleneck(EXPANSION * inner, inner, 1) for _ in range(blocks - 1)]
    return nn.Sequential(Bottleneck(channels_in, inner, stride), *later)


def build(name: str, classes: int, blocks: tuple[int, int, int, int]) -> nn.Module:
    """Build the network with fresh weights."""
    return ResNet50(classes, blocks)


def adapter(network: nn.Module) -> Adapter:
    """Return the taps: stages after their last ReLU, pre-activations before it, with the batch norm that makes each."""
    assert isinstance(network, ResNet50)
    taps = {"stem": Tap("relu")}
    for number, stage in enumerate((network.layer1, network.layer2, network.layer3, network.layer4), 1):
        last = f"layer{number}.{len(stage) - 1}"
        taps[f"stage{number}"] = Tap(f"layer{number}")
        taps[f"stage{number}.preact"] = Tap(f"{last}.relu3", at="input", norm=f"{last}.bn3")
    taps["pre_pool"] = Tap("avgpool", at="input")
    taps["embedding"] = Tap("linear", at="input")
    taps["logits"] = Tap("linear")
    return Adapter(taps, classifier="linear")
