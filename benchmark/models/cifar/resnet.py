"""CIFAR ResNet: three stages of basic blocks on 3 x 32 x 32 (He et al., 2016, arXiv 1512.03385).

As RepDistiller and mdistiller define them, down to the names in the state dict, so that their checkpoints load:
`(depth - 2) / 6` blocks a stage and a 1x1 convolution wherever a block changes the shape.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from benchmark.models.taps import Adapter, Tap

MODELS = {
    "resnet8": {"depth": 8, "widths": (16, 16, 32, 64)},
    "resnet14": {"depth": 14, "widths": (16, 16, 32, 64)},
    "resnet20": {"depth": 20, "widths": (16, 16, 32, 64)},
    "resnet32": {"depth": 32, "widths": (16, 16, 32, 64)},
    "resnet44": {"depth": 44, "widths": (16, 16, 32, 64)},
    "resnet56": {"depth": 56, "widths": (16, 16, 32, 64)},
    "resnet110": {"depth": 110, "widths": (16, 16, 32, 64)},
    "resnet8x4": {"depth": 8, "widths": (32, 64, 128, 256)},
    "resnet32x4": {"depth": 32, "widths": (32, 64, 128, 256)},
}


def initialise_convolutions(network: nn.Module) -> None:
    """Draw normal weights of variance `2 / (k k channels_out)`, as RepDistiller does in all but its ShuffleNets."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class BasicBlock(nn.Module):
    """The basic residual block, two 3x3 convolutions beside a shortcut: B,C_in,H,W to B,C,H/stride,W/stride."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the last ReLU, whose input is the pre-activation."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        rectified: Tensor = self.relu2(out + self.downsample(x))
        return rectified


class ResNet(nn.Module):
    """The CIFAR ResNet network: B,3,H,W to B,classes."""

    def __init__(self, classes: int, depth: int, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        stem, first, second, third = widths
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        self.layer1 = _stage(stem, first, blocks, stride=1)
        self.layer2 = _stage(first, second, blocks, stride=2)
        self.layer3 = _stage(second, third, blocks, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(third, classes)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores B,classes."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def _stage(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    later = [BasicBlock(channels, channels, 1) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(channels_in, channels, stride), *later)


def build(name: str, classes: int, depth: int, widths: tuple[int, int, int, int]) -> nn.Module:
    """Build one network with fresh weights."""
    return ResNet(classes, depth, widths)


def adapter(network: nn.Module) -> Adapter:
    """Return the taps: stages after their last ReLU, pre-activations before it, with the batch norm that makes each."""
    assert isinstance(network, ResNet)
    taps = {"stem": Tap("relu")}
    for number, stage in enumerate((network.layer1, network.layer2, network.layer3), 1):
        last = f"layer{number}.{len(stage) - 1}"
        taps[f"stage{number}"] = Tap(f"layer{number}")
        taps[f"stage{number}.preact"] = Tap(f"{last}.relu2", at="input", norm=f"{last}.bn2")
    taps["pre_pool"] = Tap("avgpool", at="input")
    taps["embedding"] = Tap("fc", at="input")
    taps["logits"] = Tap("fc")
    return Adapter(taps, classifier="fc")


def fold_first_bias(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without `conv1.bias`, which the running mean of the next batch norm absorbs.

    `(w x + b) - mean = w x - (mean - b)`, so the network computes the same; some published checkpoints of this family
    were trained with that bias, which a batch norm makes idle.
    """
    folded = {name: tensor for name, tensor in state.items() if name != "conv1.bias"}
    folded["bn1.running_mean"] = state["bn1.running_mean"] - state["conv1.bias"]
    return folded


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a published state dict in this file's layout."""
    return fold_first_bias(state) if "conv1.bias" in state else dict(state)
