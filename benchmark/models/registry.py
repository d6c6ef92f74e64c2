"""Finds network families by reading files: each declares MODELS, `build` and `adapter`."""

from __future__ import annotations

import ast
import inspect
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.discovery import EXTRA, literal, load, source_files, syntax
from benchmark.errors import UsageError, nearest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmark.models.taps import Adapter


@dataclass(frozen=True)
class ModelEntry:
    """One network as its family's file declares it."""

    name: str
    family: str  # the first line of the file's docstring
    path: Path
    arguments: dict[str, Any]

    def build(self, classes: int, **wishes: float) -> nn.Module:
        """The network with fresh weights. Imports torch; draws from torch's global generator.

        `wishes` are `image_size`, and a recipe's `dropout` and `drop_path`: a family takes those that it has a use for.
        """
        taken = {name: value for name, value in wishes.items() if self.takes(name)}
        network: nn.Module = load(self.path).build(self.name, classes, **self.arguments, **taken)
        return network

    def takes(self, wish: str) -> bool:
        """Whether the family's `build` has a use for such a wish."""
        return wish in inspect.signature(load(self.path).build).parameters

    def convert(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A foreign state dict in this family's layout, where the family's file knows how."""
        known = getattr(load(self.path), "convert", None)
        converted: dict[str, Tensor] = known(state) if known else state
        return converted

    def adapter(self, network: nn.Module) -> Adapter:
        """Which module of this network plays which role."""
        adapter: Adapter = load(self.path).adapter(network)
        return adapter


def models() -> dict[str, ModelEntry]:
    """Every network, by name. Files are read once a process."""
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
        for name, arguments in declared.items():
            if name in found:
                raise UsageError(
                    f"two networks are named {name!r}: {found[name].path} and {path}", "rename one of them"
                )
            found[name] = ModelEntry(name, family, path, arguments or {})
    return found


def model(name: str) -> ModelEntry:
    """One network, or an error that names the nearest."""
    known = models()
    if name not in known:
        raise UsageError(f"unknown model {name!r}", nearest(name, known))
    return known[name]
