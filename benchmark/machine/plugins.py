"""Reading of Python files without running them, so that methods and networks can be listed without importing torch."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

from benchmark.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent.parent
EXTRA = "BENCHMARK_EXTRA"  # folders with a user's own methods and models, separated like $PATH


def source_files(package: str, extra: str) -> Iterator[Path]:
    """Yield every Python file of a package of this project, then of the folders in `extra`, a list like $PATH."""
    yield from sorted((ROOT / package).rglob("*.py"))
    yield from own_files(extra)


def own_files(extra: str) -> Iterator[Path]:
    """Yield every Python file of the folders in `extra`, a list like $PATH.

    Raises:
        UsageError: one of them is not a folder.
    """
    for name in filter(None, extra.split(os.pathsep)):
        folder = Path(name).expanduser().resolve()
        if not folder.is_dir():
            raise UsageError(f"{EXTRA} names {name}, which is not a folder", f"mkdir -p {name}, or unset {EXTRA}")
        yield from sorted(folder.glob("*.py"))


@cache
def syntax(path: Path) -> ast.Module:
    """Return the file's syntax tree."""
    try:
        return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except SyntaxError as error:
        raise UsageError(f"{path}:{error.lineno or 1}: {error.msg}", "correct the Python of this file") from error


def literal(body: list[ast.stmt], name: str) -> object | None:
    """Return the value of `name = <literal>` in a module or class body, or None if it is absent or computed."""
    for statement in body:
        match statement:
            case ast.Assign(targets=targets, value=value):
                named: list[ast.expr] = targets
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                named = [target]
            case _:
                continue
        if any(isinstance(target, ast.Name) and target.id == name for target in named):
            try:
                found: object = ast.literal_eval(value)
            except ValueError:
                return None
            return found
    return None


def load(path: Path) -> ModuleType:
    """Import a discovered file: by its package's name if it is part of this project, else as `benchmark_extra.NAME`."""
    if path.is_relative_to(ROOT):
        parts = path.relative_to(ROOT).with_suffix("").parts
        return importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    name = f"benchmark_extra.{path.stem}"
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) == str(path):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
