"""YAML that remembers its lines, so that every complaint about a manifest names one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from benchmark.errors import UsageError, nearest
from benchmark.machine.plain import Plain

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """An entry of a file. Unknown keys are refused, and what was read does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


_Base: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Loader(_Base):  # type: ignore[valid-type, misc]  # the base is chosen at run time
    """A loader of safe YAML in which 1e-3 is a number, as it is everywhere but in YAML 1.1."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(?:\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
Place = tuple[str | int, ...]  # keys and indices from the top of a file down to a value

# Numbers under these keys keep the digits they are printed with: 64.60 is not 64.6.
VERBATIM = frozenset({"cells"})


class YamlFile:
    """A parsed file: plain `data`, and the line of every place in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []
        self._lines: dict[Place, int] = {}
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}", "python -m benchmark list suites") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{path} is no UTF-8 text", "save it as UTF-8") from error
        try:
            self._loader = Loader(text)
            node = self._loader.get_single_node()
            self.data: Plain = self._value(node, ()) if node is not None else None
        except (yaml.YAMLError, ValueError) as error:  # ValueError: a date with a thirteenth month
            mark = getattr(error, "problem_mark", None)
            where = f"{path}:{mark.line + 1}" if mark else str(path)
            raise UsageError(f"{where}: {getattr(error, 'problem', None) or error}", "mend the YAML") from error

    def _value(self, node: yaml.Node, place: Place) -> Plain:
        self._lines[place] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            found: dict[str, Plain] = {}
            for key_node, value_node in node.value:
                key = str(self._loader.construct_object(key_node, deep=True))
                if key in found:
                    self.complain((*place, key), f"{key!r} is given twice", key_node.start_mark.line + 1)
                found[key] = self._value(value_node, (*place, key))
            return found
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*place, index)) for index, item in enumerate(node.value)]
        if place and place[-1] in VERBATIM and isinstance(node, yaml.ScalarNode):
            return str(node.value)
        built: Plain = self._loader.construct_object(node, deep=True)
        return built

    def entries(self) -> dict[str, Plain]:
        """Return what the file holds by key. A file that is no mapping is complained of, and taken for an empty one."""
        if isinstance(self.data, dict):
            return self.data
        self.complain((), f"this file is a mapping of keys to values, not {type(self.data).__name__}")
        return {}

    def line(self, place: Place) -> int:
        """Return the line of a place, or of the nearest place above it that the file has."""
        while place not in self._lines and place:
            place = place[:-1]
        return self._lines.get(place, 1)

    def has(self, place: Place) -> bool:
        """Return True if the file itself contains this place."""
        return place in self._lines

    def written(self, place: Place) -> Place:
        """Return the part of a place that the file contains. Validators add names of their own."""
        kept: Place = ()
        for part in place:
            if (*kept, part) in self._lines:
                kept = (*kept, part)
        return kept

    def typed(self, model: type[Model], data: object, place: Place) -> Model | None:
        """Return a flat entry as a model, strictly: "3" and true are no numbers. None if problems were noted."""
        try:
            return model.model_validate_json(json.dumps(data, default=str), strict=True)
        except ValidationError as error:
            for problem in error.errors():
                key = str(problem["loc"][-1]) if problem["loc"] else ""
                if problem["type"] == "extra_forbidden":
                    message = f"unknown key {key!r}; {nearest(key, model.model_fields)}"
                elif problem["type"] == "missing":
                    message = f"the key {key!r} is missing"
                else:
                    message = f"{key}: {problem['msg'].lower()} (got {problem['input']!r})"
                self.complain((*place, *problem["loc"]), message)
            return None

    def complain(self, place: Place, message: str, line: int | None = None) -> None:
        """Note a problem, to be raised with all others by `check`."""
        self.problems.append(f"{self.path}:{line or self.line(place)}: {message}")

    def check(self, fix: str = "") -> None:
        """Raise one error with every problem of the file, in the order of its lines."""
        if self.problems:
            raise UsageError("\n".join(dict.fromkeys(sorted(self.problems, key=_line_of))), fix)


def _line_of(problem: str) -> int:
    parts = problem.split(":")
    return next((int(part) for part in parts[1:] if part.isdigit()), 0)


def yaml_files(folder: Path) -> Iterator[Path]:
    """Yield the YAML files of a folder, sorted by name."""
    return iter(sorted(folder.glob("*.yaml")))
