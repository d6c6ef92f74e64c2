"""CIFAR VGG: five blocks of 3x3 convolutions with batch norm (Simonyan and Zisserman, 2015, arXiv 1409.1556).

As RepDistiller and mdistiller define them, names in the state dict included: convolutions have biases, one linear layer
classifies, and on 32 x 32 the last two blocks share one resolution.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from benchmark.models.cifar.resnet import initialise_convolutions
from benchmark.models.taps import Adapter, Tap

MODELS = {
    "vgg8": {"widths": ((64,), (128,), (256,), (512,), (512,))},
    "vgg13": {"widths": ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512))},
}


class VGG(nn.Module):
    """The CIFAR VGG network: B,3,H,W to B,classes.

    A block ends with its batch norm; the ReLU after it is its own module.
    """

    def __init__(self, classes: int, widths: Sequence[Sequence[int]]) -> None:
        super().__init__()
        channels_in = (3, *(block[-1] for block in widths))
        self.block0 = _block(channels_in[0], widths[0])
        self.block1 = _block(channels_in[1], widths[1])
        self.block2 = _block(channels_in[2], widths[2])
        self.block3 = _block(channels_in[3], widths[3])
        self.block4 = _block(channels_in[4], widths[4])
        self.relu0, self.relu1, self.relu2, self.relu3, self.relu4 = (nn.ReLU() for _ in range(5))
        self.pool0, self.pool1, self.pool2 = (nn.MaxPool2d(2) for _ in range(3))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels_in[5], classes)
        self._initialise()

    def _initialise(self) -> None:
        initialise_convolutions(self)
        nn.init.normal_(self.classifier.weight, std=0.01)  # RepDistiller, models/vgg.py
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores B,classes."""
        x = self.pool0(self.relu0(self.block0(x)))
        x = self.pool1(self.relu1(self.block1(x)))
        x = self.pool2(self.relu2(self.block2(x)))
        x = self.relu3(self.block3(x))
        x = self.relu4(self.block4(x))
        logits: Tensor = self.classifier(self.avgpool(x).flatten(1))
        return logits


def _block(channels_in: int, widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in widths:
        if layers:
            layers.append(nn.ReLU())
        layers += [nn.Conv2d(channels_in, channels, 3, padding=1), nn.BatchNorm2d(channels)]
        channels_in = channels
    return nn.Sequential(*layers)


def build(name: str, classes: int, widths: Sequence[Sequence[int]]) -> nn.Module:
    """Build one network with fresh weights."""
    return VGG(classes, widths)


def adapter(network: nn.Module) -> Adapter:
    """Return the taps: block 0 is the stem, stages are blocks 1 to 4 after their ReLU, pre-activations before it."""
    assert isinstance(network, VGG)
    taps = {"stem": Tap("relu0")}
    for number, block in enumerate((network.block1, network.block2, network.block3, network.block4), 1):
        taps[f"stage{number}"] = Tap(f"relu{number}")
        taps[f"stage{number}.preact"] = Tap(f"block{number}", norm=f"block{number}.{len(block) - 1}")
    taps["pre_pool"] = Tap("avgpool", at="input")
    taps["embedding"] = Tap("classifier", at="input")
    taps["logits"] = Tap("classifier")
    return Adapter(taps, classifier="classifier")
