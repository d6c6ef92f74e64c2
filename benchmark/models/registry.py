"""The network families, found by reading files: each declares MODELS, `build` and `adapter`.

A file may also state REVISIONS, and in FORM_OF of which network another one is a form.
"""

from __future__ import annotations

import ast
import inspect
import os
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import UsageError, nearest
from benchmark.machine.plugins import EXTRA, ROOT, literal, load, source_files, syntax

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmark.models.taps import Adapter


NETWORK_LIBRARIES = ("torchvision", "timm")


@dataclass(frozen=True)
class ModelEntry:
    """One network as its family's file declares it."""

    name: str
    family: str  # the first line of the file's docstring
    path: Path
    arguments: dict[str, object]
    by_hand: tuple[tuple[str, str], ...] = ()  # roles and the modules that a user names for them
    revision: int = 1  # raised when a change of initialisation or forward pass alters results
    form_of: str = ""  # the network that tables print for it: methods are compared over both

    def build(self, classes: int, **wishes: float) -> nn.Module:
        """Build the network with fresh weights. Imports torch; draws from torch's global generator.

        `wishes` are `image_size`, and a recipe's `dropout` and `drop_path`: a family takes those that it has a use for.
        """
        taken = {name: value for name, value in wishes.items() if self.takes(name)}
        network: nn.Module = load(self.path).build(self.name, classes, **self.arguments, **taken)
        return network

    def on_meta(self, classes: int, **wishes: float) -> nn.Module:
        """Return the network on the meta device, where it has shapes but takes no memory."""
        import torch

        try:
            with torch.device("meta"):
                return self.build(classes, **wishes)
        except NotImplementedError:  # RegNets compute their widths with tensors
            return self.build(classes, **wishes).to("meta")

    def takes(self, wish: str) -> bool:
        """Return True if the family's `build` uses this argument; of library networks, only timm's do."""
        return wish in inspect.signature(load(self.path).build).parameters and not self.name.startswith("torchvision:")

    def convert(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a foreign state dict in this family's layout; unchanged if the family has no `convert`."""
        known = getattr(load(self.path), "convert", None)
        converted: dict[str, Tensor] = known(state) if known else state
        return converted

    def adapter(self, network: nn.Module) -> Adapter:
        """Return the adapter: the module of this network that plays each role."""
        adapter: Adapter = load(self.path).adapter(network)
        return _with(adapter, self, network) if self.by_hand else adapter


def models() -> dict[str, ModelEntry]:
    """Return every network by name. Files are read once for each process."""
    return _registry(os.environ.get(EXTRA, ""))


@cache
def _registry(extra: str) -> dict[str, ModelEntry]:
    found: dict[str, ModelEntry] = {}
    for path in source_files("benchmark/models", extra):
        tree = syntax(path)
        declared = literal(tree.body, "MODELS")
        if not isinstance(declared, dict):
            continue
        family = (ast.get_docstring(tree) or "").split("\n")[0]
        revisions, forms = literal(tree.body, "REVISIONS"), literal(tree.body, "FORM_OF")
        for name, arguments in declared.items():
            if name in found:
                raise UsageError(
                    f"two networks are named {name!r}: {found[name].path} and {path}", "rename one of them"
                )
            revision = revisions.get(name, 1) if isinstance(revisions, dict) else 1
            form = forms.get(name, "") if isinstance(forms, dict) else ""
            found[name] = ModelEntry(name, family, path, arguments or {}, revision=revision, form_of=form)
    return found


def _with(adapter: Adapter, entry: ModelEntry, network: nn.Module) -> Adapter:
    """Return an adapter with the user's taps added: `stage3=layer3`, or `embedding=fc:input` for a module's input."""
    from benchmark.models.taps import Tap

    modules = dict(network.named_modules())
    found = dict(adapter.taps)
    for role, place in entry.by_hand:
        path, _, at = place.partition(":")
        if path not in modules or at not in ("", "input"):
            raise UsageError(
                f"{entry.name} has no module {place!r} for {role}", nearest(path, [name for name in modules if name])
            )
        found[role] = Tap(path, at="input" if at else "output")
    order = sorted(found, key=lambda role: list(adapter.taps).index(role) if role in adapter.taps else -1)
    return replace(adapter, taps={role: found[role] for role in order})


def _parsed(name: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Split `NAME[stage3=layer3,...]` into the name and the taps that a user sets."""
    bare, bracket, rest = name.partition("[")
    if not bracket:
        return name, ()
    pairs = [tuple(pair.split("=", 1)) for pair in rest.removesuffix("]").split(",")]
    if not rest.endswith("]") or any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise UsageError(f"cannot read the taps in {name!r}", "write NAME[stage3=layer3,pre_pool=layer4]")
    return bare, tuple((role.strip(), place.strip()) for role, place in pairs)


def model(name: str) -> ModelEntry:
    """Return one network, or raise an error that names the nearest known name.

    Besides the families' names it accepts `torchvision:NAME` and `timm:NAME` for any of their networks, and
    `NAME[ROLE=MODULE]` for a network whose taps the user sets.
    """
    bare, by_hand = _parsed(name)
    if bare.partition(":")[0] in NETWORK_LIBRARIES:
        family = "any network of torchvision or timm, taps found by shape"
        return ModelEntry(bare, family, ROOT / "benchmark" / "models" / "library.py", {}, by_hand)
    if by_hand:
        return replace(model(bare), by_hand=by_hand)
    known = models()
    if name not in known:
        raise UsageError(f"unknown model {name!r}", nearest(name, known))
    return known[name]
