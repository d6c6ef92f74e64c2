"""Hide the packages of `[dense]` from processes that have this folder in their PYTHONPATH."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

HIDDEN = frozenset({"mmengine", "mmcv", "mmdet", "mmseg"})
everywhere = PathFinder.find_spec


def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
    return None if name.partition(".")[0] in HIDDEN else everywhere(name, path, target)


PathFinder.find_spec = find_spec  # what both `import` and `importlib.util.find_spec` ask
