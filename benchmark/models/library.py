"""Any network of torchvision or timm, as `torchvision:NAME` or `timm:NAME`; its taps are found by shape.

A network is run once on black images. Of each resolution from a quarter of the image's on, the stage is the last map
before the module that makes smaller ones; `pre_pool` is the last stage, `embedding` what enters the last linear layer.
Pre-activations are not found, nor stages in a transformer whose tokens are no maps: name what a method needs by hand.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from benchmark.errors import UsageError, nearest
from benchmark.models.taps import Adapter, Tap

MODELS: dict[str, dict[str, str]] = {}  # none by name: the registry comes here for names with a library in front

SIDE = 224
_IMAGES = 2


def build(name: str, classes: int, dropout: float = 0.0, drop_path: float = 0.0, image_size: int = SIDE) -> nn.Module:
    """Build the network with fresh weights, B,3,H,W to B,classes.

    Only timm's networks use `dropout` and `drop_path`.
    """
    library, _, bare = name.partition(":")
    return (
        _torchvisions(bare, classes)
        if library == "torchvision"
        else _timms(bare, classes, dropout, drop_path, image_size)
    )


def _torchvisions(name: str, classes: int) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise UsageError(f"torchvision has no classification network {name!r}", nearest(name, known))
    # GoogLeNet and Inception warn of slow initial weights unless told whether to make them.
    more = {"init_weights": True, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    network: nn.Module = models.get_model(name, weights=None, num_classes=classes, **more)
    return network


def _timms(name: str, classes: int, dropout: float, drop_path: float, image_size: int) -> nn.Module:
    import timm

    if not timm.is_model(name):
        raise UsageError(f"timm has no network {name!r}", nearest(name, timm.list_models()))
    # Transformers are made for one image size, convolutional networks know no such setting.
    sized = {"img_size": image_size} if image_size != SIDE else {}
    regular = {"drop_rate": dropout} | ({"drop_path_rate": drop_path} if drop_path else {})
    for settings in (sized | regular, regular):
        with contextlib.suppress(TypeError):
            network: nn.Module = timm.create_model(name, num_classes=classes, **settings)
            return network
    raise UsageError(f"timm's {name} takes no drop_path_rate", "choose a recipe without drop path")


@dataclass(frozen=True)
class _Seen:
    """One module's output in a forward pass."""

    path: str
    output: Tensor
    version: int  # of the tensor when it was seen: an in-place operation raises it
    enters: int  # the side of the map that enters the module, 0 where none does

    @property
    def overwritten(self) -> bool:
        return self.output._version != self.version

    @property
    def channels_last(self) -> bool:
        """Return True if the output looks like B,H,W,C."""
        _, one, two, three = self.output.shape
        return one == two and two != three

    @property
    def side(self) -> int:
        """Return the side of the output if it is a square map, else 0."""
        return _side_of(self.output)


def adapter(network: nn.Module) -> Adapter:
    """Return the taps, found by the shapes of a forward pass."""
    seen, scores = _forward(network)
    classifier = _classifier(network, seen, scores)
    taps: dict[str, Tap] = {}
    maps = [one for one in seen if one.side > 1 and (classifier or one.output.shape[1] != scores.shape[-1])]
    if maps:
        taps["stem"] = _tap(maps[0])
    stages = _stages(maps, side_of_images(network) // 4)
    for number, stage in enumerate(stages[:9], 1):
        taps[f"stage{number}"] = _tap(stage)
    if stages:
        taps["pre_pool"] = _tap(stages[-1])
    if classifier:
        taps["embedding"] = Tap(classifier, at="input")
    taps["logits"] = Tap("")  # whatever the network itself returns
    return Adapter(taps, classifier=classifier)


def _forward(network: nn.Module) -> tuple[list[_Seen], Tensor]:
    """Run the network once; return every module's output in the order in which modules finish, and the class scores.

    A container comes after the modules that it holds.
    """
    seen: list[_Seen] = []

    def note(path: str, module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        if isinstance(output, Tensor):
            entering = inputs[0] if inputs and isinstance(inputs[0], Tensor) else output.new_empty(0)
            seen.append(_Seen(path, output, output._version, _side_of(entering)))

    handles = [module.register_forward_hook(partial(note, path)) for path, module in network.named_modules() if path]
    training = network.training
    side = side_of_images(network)
    parameter = next(network.parameters())
    try:
        with torch.no_grad():
            scores: Tensor = network.eval()(torch.zeros(_IMAGES, 3, side, side, device=parameter.device))
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return seen, scores


def side_of_images(network: nn.Module, at_least: int = SIDE) -> int:
    """Return the image size that a network is made for.

    If it accepts any size: the larger of `at_least` and its usual size.
    """
    embedding = getattr(network, "patch_embed", None)
    made_for = getattr(embedding, "img_size", None) or getattr(network, "image_size", None)
    if made_for:
        return int(made_for if isinstance(made_for, int) else made_for[0])
    config = getattr(network, "pretrained_cfg", None) or {}
    return max(at_least, int(config.get("input_size", (3, at_least, at_least))[-1]))


def _side_of(tensor: Tensor) -> int:
    """Return the side of a tensor B,C,S,S or B,S,S,C; 0 for any other shape."""
    if tensor.ndim != 4 or tensor.shape[0] != _IMAGES:
        return 0
    _, one, two, three = tensor.shape
    return two if two in (one, three) else 0


def _stages(maps: list[_Seen], largest: int) -> list[_Seen]:
    """Return the last map of each resolution, from large to small."""
    by_path = {one.path: one for one in maps}
    found: dict[int, _Seen] = {}
    smallest = maps[0].side if maps else 0
    for one in maps:
        if one.side > smallest:  # no part of the way from the image to the scores: a window's attention, for instance
            continue
        smallest = one.side
        if not any(_halves(by_path[path], one.side) for path in _above(one.path) if path in by_path):
            found[one.side] = one
    return [one for side, one in found.items() if side <= largest] if len(by_path) > 1 else []


def _halves(block: _Seen, side: int) -> bool:
    """Return True if a block makes smaller maps of maps of this size: maps inside it belong to the next stage."""
    return block.enters == side and side / 3 < block.side < side


def _above(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _tap(seen: _Seen) -> Tap:
    return Tap(seen.path, clone=seen.overwritten, channels_last=seen.channels_last)


def _classifier(network: nn.Module, seen: list[_Seen], scores: Tensor) -> str:
    """Return the path of the last linear layer if its width is that of the scores, else an empty string."""
    linear = [one.path for one in seen if isinstance(network.get_submodule(one.path), nn.Linear)]
    fitting = [path for path in linear if network.get_submodule(path).out_features == scores.shape[-1]]
    return fitting[-1] if fitting and fitting[-1] == linear[-1] else ""
