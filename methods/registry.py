"""The methods, found by reading files, not by importing them: listings, checks and identities need no torch."""

from __future__ import annotations

import ast
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeGuard

from benchmark.errors import UsageError, nearest
from benchmark.machine.plugins import EXTRA, literal, load, source_files, syntax
from methods.options import MethodOptions, MethodReference, option

if TYPE_CHECKING:
    from methods.base import Method

# What the body of an `Options` class may use: it is executed alone, without the file around it.
_NAMES = {
    "MethodOptions": MethodOptions,
    "MethodReference": MethodReference,
    "option": option,
    "Annotated": Annotated,
    "Literal": Literal,
    "Any": Any,
}


@dataclass(frozen=True)
class MethodEntry:
    """One method as its file declares it. Its name is the class's in lower case, or its literal `name`."""

    name: str
    class_name: str
    path: Path
    doc: str
    revision: int
    needs_teacher: bool
    is_distance: bool
    options: type[MethodOptions]

    def load(self) -> type[Method]:
        """Import and return the class itself. Imports torch."""
        found: type[Method] = getattr(load(self.path), self.class_name)
        return found


def _options(node: ast.ClassDef, path: Path) -> type[MethodOptions]:
    declared = next((n for n in node.body if isinstance(n, ast.ClassDef) and n.name == "Options"), None)
    if declared is None:
        return MethodOptions
    scope: dict[str, object] = dict(_NAMES) | {"__name__": f"methods.options_of.{path.stem}"}
    try:
        # Without this file's future import: pydantic could not resolve annotations left as text.
        exec(compile(ast.Module([declared], []), str(path), "exec", dont_inherit=True), scope)
    except NameError as error:
        raise UsageError(
            f"{path}:{declared.lineno}: the Options of {node.name} use {error.name!r}",
            f"options are read without importing the file, so they may use only {', '.join(sorted(_NAMES))}",
        ) from error
    options = scope["Options"]
    assert isinstance(options, type) and issubclass(options, MethodOptions)
    return options


def _entry(node: ast.ClassDef, path: Path) -> MethodEntry:
    taps = literal(node.body, "taps")
    defined = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
    revision = literal(node.body, "revision")
    name = literal(node.body, "name")
    return MethodEntry(
        name=name if isinstance(name, str) else node.name.lower(),
        class_name=node.name,
        path=path,
        doc=(ast.get_docstring(node) or "").strip().split("\n")[0],
        revision=revision if isinstance(revision, int) else 1,
        needs_teacher=taps != (),
        is_distance="distance" in defined,
        options=_options(node, path),
    )


def methods() -> dict[str, MethodEntry]:
    """Return every method by name. Files are read once for each process."""
    return _registry(os.environ.get(EXTRA, ""))


@cache
def _registry(extra: str) -> dict[str, MethodEntry]:
    found: dict[str, MethodEntry] = {}
    for path in source_files("methods", extra):
        for node in filter(_is_method, syntax(path).body):
            entry = _entry(node, path)
            if entry.name in found:
                raise UsageError(
                    f"two methods are named {entry.name!r}: {found[entry.name].path} and {path}",
                    "rename one of the classes",
                )
            found[entry.name] = entry
    return found


def _is_method(node: ast.stmt) -> TypeGuard[ast.ClassDef]:
    # A class that derives from `base.Method`, written so, is machinery and stays unlisted.
    return isinstance(node, ast.ClassDef) and any(
        isinstance(parent, ast.Name) and parent.id == "Method" for parent in node.bases
    )


def method(name: str) -> MethodEntry:
    """Return one method, or raise an error that names the nearest known name."""
    known = methods()
    if name not in known:
        raise UsageError(f"unknown method {name!r}", nearest(name, known))
    return known[name]
