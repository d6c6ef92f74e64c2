"""ImageNet MobileNetV1: depthwise and pointwise convolutions (Howard et al., 2017, arXiv 1704.04861).

As the line of CRD, DKD, DIST and DiffKD defines it, names in the state dict included: width 1, ReLU, 4.23 M parameters.
The lines differ in how weights start: mdistiller and ReviewKD leave PyTorch's own initialisation, while
image_classification_sota draws convolutions from a normal distribution scaled by their fan-out.
"""

from __future__ import annotations

from torch import Tensor, nn

from benchmark.models.taps import Adapter, Tap

MODELS = {"mobilenetv1": {"start": "fan-out"}, "mobilenetv1_mdistiller": {"start": "pytorch"}}
FORM_OF = {"mobilenetv1_mdistiller": "mobilenetv1"}
REVISIONS = {"mobilenetv1": 2}  # started as mobilenetv1_mdistiller does

STEM = 32
# Channels and stride of each block (mdistiller, models/imagenet/mobilenetv1.py).
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)
STAGE_ENDS = (3, 5, 11, 13)  # positions in `model` of the last block of each resolution


class MobileNetV1(nn.Module):
    """The MobileNetV1 network: B,3,H,W to B,classes."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        blocks, channels = [_stem()], STEM
        for out, stride in BLOCKS:
            blocks.append(_separable(channels, out, stride))
            channels = out
        self.model = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores B,classes."""
        logits: Tensor = self.fc(self.model(x).flatten(1))
        return logits


def _stem() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, STEM, 3, 2, 1, bias=False), nn.BatchNorm2d(STEM), nn.ReLU())


def _separable(channels: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, out, 1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )


def build(name: str, classes: int, start: str) -> nn.Module:
    """Build the network with fresh weights."""
    network = MobileNetV1(classes)
    for module in network.modules() if start == "fan-out" else ():
        if isinstance(module, nn.Conv2d):  # what the source does with the classifier is not known: PyTorch's own
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def adapter(network: nn.Module) -> Adapter:
    """Return the taps. Stages end where the resolution changes, as in ReviewKD and mdistiller.

    A pre-activation is the output of a stage's last batch norm.
    """
    assert isinstance(network, MobileNetV1)
    taps = {"stem": Tap("model.0")}
    for number, index in enumerate(STAGE_ENDS, 1):
        taps[f"stage{number}"] = Tap(f"model.{index}")
        taps[f"stage{number}.preact"] = Tap(f"model.{index}.4", norm=f"model.{index}.4")
    taps["pre_pool"] = Tap(f"model.{len(BLOCKS) + 1}", at="input")
    taps["embedding"] = Tap("fc", at="input")
    taps["logits"] = Tap("fc")
    return Adapter(taps, classifier="fc")
