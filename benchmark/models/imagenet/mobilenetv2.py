"""ImageNet MobileNetV2, width 1 (Sandler et al., 2018, arXiv 1801.04381): torchvision's and timm's."""

from __future__ import annotations

from torch import nn

from benchmark.models.taps import Adapter, Tap

MODELS = {"mobilenet_v2": {"library": "torchvision"}, "mobilenetv2_100": {"library": "timm"}}

# The last block of each resolution, from stride 4 on.
STAGES = {
    "torchvision": ("features.3", "features.6", "features.13", "features.17"),
    "timm": ("blocks.1", "blocks.2", "blocks.4", "blocks.6"),
}


def build(name: str, classes: int, library: str, dropout: float = 0.0, drop_path: float = 0.0) -> nn.Module:
    """Build the network with fresh weights, B,3,H,W to B,classes.

    Torchvision's network has dropout 0.2 unless another is given.
    """
    network: nn.Module
    if library == "torchvision":
        from torchvision import models

        network = models.get_model(name, weights=None, num_classes=classes, **({"dropout": dropout} if dropout else {}))
    else:
        import timm

        network = timm.create_model(name, num_classes=classes, drop_rate=dropout, drop_path_rate=drop_path)
    return network


def adapter(network: nn.Module) -> Adapter:
    """Return the taps. Stages are linear, so each is its own pre-activation, with the norm of its last projection."""
    library = "torchvision" if hasattr(network, "features") else "timm"
    taps = {"stem": Tap("features.0" if library == "torchvision" else "bn1")}
    for number, path in enumerate(STAGES[library], 1):
        norm = f"{path}.conv.3"
        if library == "timm":
            stage = network.get_submodule(path)
            assert isinstance(stage, nn.Sequential)
            norm = f"{path}.{len(stage) - 1}.bn3"
        taps[f"stage{number}"] = Tap(path)
        taps[f"stage{number}.preact"] = Tap(path, norm=norm)
    if library == "torchvision":
        # Before the dropout: what a method sees of a vector is not thinned out.
        ends = {"pre_pool": Tap("features"), "embedding": Tap("classifier", at="input"), "logits": Tap("classifier.1")}
        return Adapter(taps | ends, classifier="classifier.1")
    ends = {"pre_pool": Tap("bn2"), "embedding": Tap("classifier", at="input"), "logits": Tap("classifier")}
    return Adapter(taps | ends, classifier="classifier")
