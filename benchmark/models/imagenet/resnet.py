"""ImageNet ResNet: torchvision's ResNet-18, 34 and 50 (He et al., 2016, arXiv 1512.03385)."""

from __future__ import annotations

from torch import nn
from torchvision import models

from benchmark.models.taps import Adapter, Tap

MODELS: dict[str, dict[str, str]] = {"resnet18": {}, "resnet34": {}, "resnet50": {}}


def build(name: str, classes: int) -> nn.Module:
    """Build one network with fresh weights, B,3,H,W to B,classes."""
    network: nn.Module = models.get_model(name, weights=None, num_classes=classes)
    return network


def adapter(network: nn.Module) -> Adapter:
    """Return the taps: stages after their last ReLU, pre-activations before it, with the batch norm that makes each."""
    taps = {"stem": Tap("relu")}
    for number in range(1, 5):
        stage = network.get_submodule(f"layer{number}")
        assert isinstance(stage, nn.Sequential)
        last = f"layer{number}.{len(stage) - 1}"
        convolutions = 3 if hasattr(stage[-1], "conv3") else 2
        taps[f"stage{number}"] = Tap(f"layer{number}")
        # A block has one ReLU for all its convolutions, and it writes over its input.
        taps[f"stage{number}.preact"] = Tap(
            f"{last}.relu", at="input", call=convolutions - 1, clone=True, norm=f"{last}.bn{convolutions}"
        )
    taps["pre_pool"] = Tap("avgpool", at="input")
    taps["embedding"] = Tap("fc", at="input")
    taps["logits"] = Tap("fc")
    return Adapter(taps, classifier="fc")
