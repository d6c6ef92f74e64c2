"""ImageNet Swin Transformer, window 7, 224 x 224 (Liu et al., 2021, arXiv 2103.14030): timm's."""

from __future__ import annotations

from torch import nn

from benchmark.models.taps import Adapter, Tap

MODELS = {
    "swin_tiny": {"timm_name": "swin_tiny_patch4_window7_224"},
    "swin_large": {"timm_name": "swin_large_patch4_window7_224"},
}


def build(name: str, classes: int, timm_name: str) -> nn.Module:
    """One network with fresh weights, B,3,224,224 to B,classes."""
    import timm

    network: nn.Module = timm.create_model(timm_name, num_classes=classes)
    return network


def adapter(network: nn.Module) -> Adapter:
    """Its maps are B,H,W,C and are permuted. Stages end without an activation: there are no pre-activations."""
    taps = {"stem": Tap("patch_embed", channels_last=True)}
    for index in range(4):
        taps[f"stage{index + 1}"] = Tap(f"layers.{index}", channels_last=True)
    taps["pre_pool"] = Tap("norm", channels_last=True)
    taps["embedding"] = Tap("head.fc", at="input")
    taps["logits"] = Tap("head.fc")
    return Adapter(taps, classifier="head.fc")
