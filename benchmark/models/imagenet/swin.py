"""ImageNet Swin Transformer, window 7, 224 x 224 (Liu et al., 2021, arXiv 2103.14030): timm's."""

from __future__ import annotations

import re

from torch import Tensor, nn

from benchmark.models.taps import Adapter, Tap

MODELS = {
    "swin_tiny": {"timm_name": "swin_tiny_patch4_window7_224"},
    "swin_large": {"timm_name": "swin_large_patch4_window7_224"},
}


def build(
    name: str, classes: int, timm_name: str, image_size: int = 224, dropout: float = 0.0, drop_path: float = 0.0
) -> nn.Module:
    """Build one network with fresh weights, B,3,S,S to B,classes.

    Windows are 7 x 7 at any size: smaller maps are padded.
    """
    import timm

    network: nn.Module = timm.create_model(
        timm_name,
        num_classes=classes,
        img_size=image_size,
        always_partition=image_size != 224,  # else windows shrink with the maps, and weights do not fit
        drop_rate=dropout,
        drop_path_rate=drop_path,
    )
    return network


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict in timm's layout, from timm's own or from a file of the Swin authors.

    The authors downsample at the end of a stage, timm at the beginning of the next.
    """
    if "layers.0.downsample.reduction.weight" not in state:
        return state
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith(("relative_position_index", "attn_mask")):  # computed, and no part of timm's
            continue
        name = re.sub(r"^layers\.(\d)\.downsample", lambda stage: f"layers.{int(stage[1]) + 1}.downsample", name)
        found[re.sub(r"^head\.", "head.fc.", name)] = tensor
    return found


def adapter(network: nn.Module) -> Adapter:
    """Return the taps. Maps are B,H,W,C and are permuted.

    Stages end without an activation, so have no pre-activations.
    """
    taps = {"stem": Tap("patch_embed", channels_last=True)}
    for index in range(4):
        taps[f"stage{index + 1}"] = Tap(f"layers.{index}", channels_last=True)
    taps["pre_pool"] = Tap("norm", channels_last=True)
    taps["embedding"] = Tap("head.fc", at="input")
    taps["logits"] = Tap("head.fc")
    return Adapter(taps, classifier="head.fc")
