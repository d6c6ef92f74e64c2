"""The order of imports between rooms: every import goes to a lower floor, and a run never judges itself."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmark.machine import provenance
from benchmark.machine.rooms import FLOORS, NEVER_REACH, ROOMS, TRAIN_FLOORS, floor_of, folder_of, picture, trained_by

ROOT = Path(__file__).resolve().parents[2]
DOORS = {"benchmark/__init__.py", "benchmark/__main__.py"}  # of the whole house: they may open any room


@dataclass(frozen=True)
class Import:
    """One name that a file imports, anywhere in the file."""

    path: str
    line: int
    name: str  # benchmark.records.store.Record

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.name}"


def imports(path: Path) -> Iterator[Import]:
    """Yield every import of a file: at the top, in functions, for type checkers, and by `import_module` of a string."""
    told = path.relative_to(ROOT).as_posix()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{told}:{node.lineno}: a relative import"
            yield from (Import(told, node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (Import(told, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (Import(told, node.lineno, name) for name in named(ast.unparse(node.args[0]).strip("f'\"")))


def named(text: str) -> list[str]:
    """The modules that a string may name: every one that is there, where a part of it is filled in at run time."""
    pattern = re.sub(r"{[^}]*}", "*", text.replace("{__name__}", ""))
    places = ROOT.glob(f"{pattern.replace('.', '/')}.py") if pattern.startswith("benchmark.") else ()
    found = [path.relative_to(ROOT).with_suffix("") for path in places]
    return [".".join(path.parts) for path in found] or [text]


def room_of(name: str) -> str | None:
    parts = name.split(".")
    if parts[0] == "methods":
        return "methods"
    return parts[1] if parts[0] == "benchmark" and len(parts) > 1 else None


def files() -> Iterator[tuple[str, Path]]:
    for room in ROOMS:
        place = ROOT / folder_of(room)
        yield from ((room, path) for path in ([place] if place.is_file() else sorted(place.rglob("*.py"))))


def all_imports() -> Iterator[tuple[str, str, Import]]:
    """Yield every import with its room and the room that it imports from."""
    for room, path in files():
        for found in imports(path):
            other = room_of(found.name)
            if other is not None:
                yield room, other, found


def test_every_file_lies_in_a_room() -> None:
    known = {path for _, path in files()} | {ROOT / door for door in DOORS}
    found = {path for folder in ("benchmark", "methods") for path in (ROOT / folder).rglob("*.py")}
    assert {path.relative_to(ROOT).as_posix() for path in found - known} == set(), "name its room in machine/rooms.py"
    assert sorted(ROOMS) == sorted(room for rooms in FLOORS for room in rooms)


def test_no_import_runs_uphill() -> None:
    uphill = [
        f"{found} ({room} may not import {other})"
        for room, other, found in all_imports()
        if other != room and floor_of(other) >= floor_of(room)
    ]
    assert not uphill, "\n".join(uphill)


def test_inside_train_tasks_do_not_import_each_other() -> None:
    heights = {name: height for height, names in enumerate(TRAIN_FLOORS) for name in names}

    def part(dotted: str) -> str:
        parts = dotted.split(".")[2:]
        return parts[0] if parts and parts[0] in heights else ""

    uphill = []
    for room, other, found in all_imports():
        if room == other == "train":
            mine = part(found.path.removesuffix(".py").replace("/", "."))
            theirs = part(found.name)
            if mine != theirs and heights[theirs] >= heights[mine]:
                uphill.append(f"{found} ({mine or 'what tasks share'} may not import {theirs})")
    assert not uphill, "\n".join(uphill)


@pytest.mark.parametrize("room", NEVER_REACH)
def test_a_run_never_judges_itself(room: str) -> None:
    """Follow imports through other rooms too."""
    reached: dict[str, set[str]] = defaultdict(set)
    for one, other, _ in all_imports():
        reached[one].add(other)
    seen, waiting = set(), [room]
    while waiting:
        for other in reached[waiting.pop()] - seen:
            seen.add(other)
            waiting.append(other)
    assert seen.isdisjoint(NEVER_REACH[room]), f"{room} reaches {sorted(seen)}"


def test_the_wall_is_seen_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that `imports` finds every kind of import: each of these lines would import from a higher floor."""
    lines = [
        "import benchmark.cli.run",
        "from benchmark.cli import run",
        "def later():\n    from benchmark.cli.run import main",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from benchmark.cli.run import main",
        "import importlib\nimportlib.import_module('benchmark.cli.run')",
        "import importlib\nname = 'run'\nimportlib.import_module(f'benchmark.cli.{name}')",
    ]
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    for line in lines:
        path = tmp_path / "one.py"
        path.write_text(line + "\n")
        assert "cli" in {room_of(found.name) for found in imports(path)}, line


def test_the_source_hash_covers_the_rooms_that_train_may_import() -> None:
    assert {"methods", "benchmark/train", "benchmark/plan", "benchmark/launch/local.py"} <= set(trained_by())
    assert not {"benchmark/judge", "benchmark/report", "benchmark/cli"} & set(trained_by())
    assert all((ROOT / place).exists() for place in trained_by())
    assert provenance.ROOT == ROOT


def test_the_documents_picture_is_the_order_of_import() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert picture() in text, f"docs/architecture.md does not show the rooms as they are; paste:\n{picture()}"
