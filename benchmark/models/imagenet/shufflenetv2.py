"""ImageNet ShuffleNet V2, width 1 (Ma et al., 2018, arXiv 1807.11164): torchvision's."""

from __future__ import annotations

from torch import nn
from torchvision import models

from benchmark.models.taps import Adapter, Tap

MODELS = {"shufflenet_v2": {"torchvision_name": "shufflenet_v2_x1_0"}}


def build(name: str, classes: int, torchvision_name: str) -> nn.Module:
    """Build the network with fresh weights, B,3,H,W to B,classes."""
    network: nn.Module = models.get_model(torchvision_name, weights=None, num_classes=classes)
    return network


def adapter(network: nn.Module) -> Adapter:
    """Return the taps: stages after their last shuffle.

    There are no pre-activations: half of a stage's channels passed no ReLU there.
    """
    taps = {"stem": Tap("conv1")}
    for number in range(1, 4):
        taps[f"stage{number}"] = Tap(f"stage{number + 1}")  # torchvision counts the stem as the first
    taps["pre_pool"] = Tap("conv5")
    taps["embedding"] = Tap("fc", at="input")
    taps["logits"] = Tap("fc")
    return Adapter(taps, classifier="fc")
