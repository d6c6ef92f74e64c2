"""ImageNet MobileNetV3-Large, width 1 (Howard et al., 2019, arXiv 1905.02244): torchvision's."""

from __future__ import annotations

from torch import nn
from torchvision import models

from benchmark.models.taps import Adapter, Tap

MODELS: dict[str, dict[str, str]] = {"mobilenet_v3_large": {}}

STAGES = {1: "features.3", 2: "features.6", 3: "features.12", 4: "features.15"}  # last block of each resolution


def build(name: str, classes: int) -> nn.Module:
    """Build the network with fresh weights, B,3,H,W to B,classes."""
    network: nn.Module = models.get_model(name, weights=None, num_classes=classes)
    return network


def adapter(network: nn.Module) -> Adapter:
    """Return the taps. Stages are linear.

    The classifier includes its hidden layer: it maps the pooled vector to logits.
    """
    taps = {"stem": Tap("features.0")}
    for number, path in STAGES.items():
        block = network.get_submodule(f"{path}.block")
        assert isinstance(block, nn.Sequential)
        taps[f"stage{number}"] = Tap(path)
        taps[f"stage{number}.preact"] = Tap(path, norm=f"{path}.block.{len(block) - 1}.1")
    taps["pre_pool"] = Tap("avgpool", at="input")
    taps["embedding"] = Tap("classifier", at="input")
    taps["logits"] = Tap("classifier")
    return Adapter(taps, classifier="classifier")
