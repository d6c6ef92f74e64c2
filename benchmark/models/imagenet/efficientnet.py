"""ImageNet EfficientNet-B0 (Tan and Le, 2019, arXiv 1905.11946): timm's `tf_efficientnet_b0`, which DiffKD trains."""

from __future__ import annotations

from torch import nn

from benchmark.models.taps import Adapter, Tap

MODELS = {"efficientnet_b0": {"timm_name": "tf_efficientnet_b0"}}

STAGES = {1: "blocks.1", 2: "blocks.2", 3: "blocks.4", 4: "blocks.6"}  # the last blocks of each resolution


def build(name: str, classes: int, timm_name: str, dropout: float = 0.0, drop_path: float = 0.0) -> nn.Module:
    """Build the network with fresh weights, B,3,H,W to B,classes."""
    import timm

    network: nn.Module = timm.create_model(timm_name, num_classes=classes, drop_rate=dropout, drop_path_rate=drop_path)
    return network


def adapter(network: nn.Module) -> Adapter:
    """Return the taps. Stages are linear.

    `pre_pool` is the last convolution before its norm, as in the released code.
    """
    taps = {"stem": Tap("bn1")}
    for number, path in STAGES.items():
        stage = network.get_submodule(path)
        assert isinstance(stage, nn.Sequential)
        taps[f"stage{number}"] = Tap(path)
        taps[f"stage{number}.preact"] = Tap(path, norm=f"{path}.{len(stage) - 1}.bn3")
    taps["pre_pool"] = Tap("conv_head")
    taps["embedding"] = Tap("classifier", at="input")
    taps["logits"] = Tap("classifier")
    return Adapter(taps, classifier="classifier")
