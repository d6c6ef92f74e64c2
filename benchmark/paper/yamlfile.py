"""Reading of YAML files that keeps the line of every value, so that every mistake can be reported with its line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from benchmark.errors import UsageError, nearest
from benchmark.machine.plain import Plain

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """An entry of a file. Unknown keys are refused, and its values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


_Base: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Loader(_Base):  # type: ignore[valid-type, misc]  # the base is chosen at run time
    """A safe loader that reads 1e-3 as a number. YAML 1.1, which PyYAML follows, reads it as a text."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(?:\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
Place = tuple[str | int, ...]  # keys and indices from the top of a file down to a value

# Values of these keys stay texts, so that numbers keep their printed digits: 64.60 does not become 64.6.
VERBATIM = frozenset({"cells", "printed"})


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
            raise UsageError(f"{path} is not a UTF-8 text", f"save {path.name} as UTF-8") from error
        try:
            self._loader = Loader(text)
            node = self._loader.get_single_node()
            self.data: Plain = self._value(node, ()) if node is not None else None
        except (yaml.YAMLError, ValueError) as error:  # ValueError: a date with a thirteenth month
            mark = getattr(error, "problem_mark", None)
            where = f"{path}:{mark.line + 1}" if mark else str(path)
            raise UsageError(f"{where}: {getattr(error, 'problem', None) or error}", "correct the YAML here") from error

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
        """Return the file's values by key. If the file is not a mapping, note a problem and return an empty one."""
        if isinstance(self.data, dict):
            return self.data
        self.complain((), f"this file must be a mapping of keys to values, not {type(self.data).__name__}")
        return {}

    def line(self, place: Place) -> int:
        """Return the line of a place, or that of the innermost enclosing place that the file has."""
        while place not in self._lines and place:
            place = place[:-1]
        return self._lines.get(place, 1)

    def has(self, place: Place) -> bool:
        """Return True if the file itself contains this place."""
        return place in self._lines

    def written(self, place: Place) -> Place:
        """Return the part of a place that the file contains. Validators such as pydantic add other names to a place."""
        kept: Place = ()
        for part in place:
            if (*kept, part) in self._lines:
                kept = (*kept, part)
        return kept

    def typed(self, model: type[Model], data: object, place: Place) -> Model | None:
        """Return an entry as a model, or None if it has mistakes, which are noted.

        Types are strict: "3" and true are not accepted as numbers.
        """
        try:
            return model.model_validate_json(json.dumps(data, default=str), strict=True)
        except ValidationError as error:
            for problem in error.errors():
                key = str(problem["loc"][-1]) if problem["loc"] else ""
                if problem["type"] == "extra_forbidden":
                    message = f"unknown key {key!r}; {nearest(key, _model_at(model, problem['loc']).model_fields)}"
                elif problem["type"] == "missing":
                    message = f"the key {key!r} is missing"
                else:
                    message = f"{key}: {problem['msg'].lower()} (got {problem['input']!r})"
                self.complain((*place, *problem["loc"]), message)
            return None

    def complain(self, place: Place, message: str, line: int | None = None) -> None:
        """Note a problem of a place. `check` raises it together with all others."""
        self.problems.append(f"{self.path}:{line or self.line(place)}: {message}")

    def check(self, fix: str = "") -> None:
        """Raise one error with all problems of the file, in the order of lines. Without problems, do nothing.

        Raises:
            UsageError: at least one problem was noted.
        """
        if self.problems:
            raise UsageError("\n".join(dict.fromkeys(sorted(self.problems, key=_line_of))), fix)


def _model_at(model: type[BaseModel], place: Place) -> type[BaseModel]:
    """Return the model inside a model that a place belongs to. Indices, and keys of mappings, lead no deeper."""
    for part in place:
        field = model.model_fields.get(str(part))
        inside = get_args(field.annotation) if field is not None else ()
        model = next((each for each in inside if isinstance(each, type) and issubclass(each, BaseModel)), model)
    return model


def _line_of(problem: str) -> int:
    parts = problem.split(":")
    return next((int(part) for part in parts[1:] if part.isdigit()), 0)


def yaml_files(folder: Path) -> Iterator[Path]:
    """Yield the YAML files of a folder, sorted by name."""
    return iter(sorted(folder.glob("*.yaml")))
