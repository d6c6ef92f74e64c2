"""Facts of the authors' files, as data in suites/sources/: what a setting of ours is held to.

One file a repository. A fact has a line, a key and a value of a file of the authors', and in `holds` the settings of
ours that must have this value: `{table9/KD: kd.temperature, recipes/A1: lr}`. A place is the beginning of a cell's
name, or a pattern such as `table2/*/DIST`; `recipes/NAME` is a recipe. What lists or runs suites reads none of this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field

from benchmark.errors import UsageError
from benchmark.machine.shipped import SHIPPED, SUITES
from benchmark.paper.yamlfile import Place, Strict, YamlFile, yaml_files

FOLDER = "sources"  # of the folder of suites
UNSOURCED = "unstated"  # the file of settings that no source states
FIX = "CONTRIBUTING.md, Add a table, has the form of a fact"

Settings = str | list[str]  # one setting's name, or several


class _Repository(Strict):
    source: str = Field(description="the name that suites and messages use")
    repository: str | None = Field(None, description="owner/name; none: a text, whose `path` is a table or a section")
    commit: str | None = Field(None, description="the commit that the suites name")


class _Read(Strict):
    path: str
    read: Literal["file", "notes"] = Field(
        "file", description="`notes`: the file itself is not available; values are from notes on it"
    )
    commit: str | None = Field(None, description="the commit whose text was read, if it is another one")


class Fact(Strict):
    """One value of one file of the authors'."""

    line: int | None = Field(None, gt=0)
    key: str
    value: object = None
    means: object = Field(None, description="the value in the units of our setting, where they are others")
    holds: dict[str, Settings] = Field({}, description="our settings that must have this value, by place")
    about: list[str] = Field([], description="places that have no setting for this value")
    differs: str | None = Field(None, description="why ours has another value, or none")
    note: str | None = None


class Unsourced(Strict):
    """Settings that no source states, with the reason for our values. Names may be patterns: `diffkd.*`."""

    holds: dict[str, Settings]
    because: str


@dataclass(frozen=True)
class Sourced:
    """A fact with its line here and its place in the authors' files."""

    fact: Fact
    where: str  # suites/sources/dist.yaml:14
    origin: str  # image_classification_sota, resnet_dist.yaml:12

    @property
    def expected(self) -> object:
        """Return the value that our settings must have."""
        return self.fact.value if self.fact.means is None else self.fact.means


@dataclass
class Sources:
    """All facts, and all settings without a source, each with its line."""

    facts: list[Sourced] = field(default_factory=list)
    unsourced: list[tuple[Unsourced, str]] = field(default_factory=list)


def load_sources(suites: Path = SUITES) -> Sources:
    """Read the folder of sources beside the suites.

    Raises:
        UsageError: files have mistakes. The error lists all, each with its line.
    """
    found, problems = Sources(), []
    for path in yaml_files(suites / FOLDER):
        try:
            file = YamlFile(path)
            if path.stem == UNSOURCED:
                found.unsourced += _unsourced(file)
            else:
                found.facts += _facts(file)
            file.check(FIX)
        except UsageError as error:
            problems.append(error.message)
    if problems:
        raise UsageError("\n".join(problems), FIX)
    return found


def shown(path: Path, line: int) -> str:
    """Format a line of a file; a file of this project by its path from the project's folder."""
    return f"{path.relative_to(SHIPPED) if path.is_relative_to(SHIPPED) else path}:{line}"


def names(settings: Settings) -> list[str]:
    """Return the names of settings, given as one or as a list."""
    return [settings] if isinstance(settings, str) else settings


def _unsourced(file: YamlFile) -> Iterator[tuple[Unsourced, str]]:
    for place, entry in _entries(file, file.data, ()):
        if (typed := file.typed(Unsourced, entry, place)) is not None:
            yield typed, shown(file.path, file.line(place))


def _facts(file: YamlFile) -> Iterator[Sourced]:
    own = dict(file.entries())
    files = own.pop("files", [])
    repository = file.typed(_Repository, own, ())
    for place, entry in _entries(file, files, ("files",)):
        facts = entry.pop("facts", [])
        read = file.typed(_Read, entry, place)
        for where, data in _entries(file, facts, (*place, "facts")):
            fact = file.typed(Fact, data, where)
            if fact is None or read is None or repository is None:
                continue
            for message in _wrong(fact, read, repository):
                file.complain(where, message)
            at = f"{read.path}:{fact.line}" if fact.line else read.path
            yield Sourced(fact, shown(file.path, file.line(where)), f"{repository.source}, {at}")


def _entries(file: YamlFile, data: object, place: Place) -> Iterator[tuple[Place, dict[str, object]]]:
    if not isinstance(data, list):
        file.complain(place, f"this must be a list of entries, not {type(data).__name__}")
        return
    for index, entry in enumerate(data):
        if isinstance(entry, Mapping):
            yield (*place, index), dict(entry)
        else:
            file.complain((*place, index), f"{entry!r} is no entry of keys and values")


def _wrong(fact: Fact, read: _Read, repository: _Repository) -> Iterator[str]:
    if not fact.holds and not fact.about:
        yield f"{fact.key} holds nothing: `holds` names settings of ours, `about` places that have none for it"
    if fact.line is None and read.read == "file" and repository.repository:
        yield f"{fact.key} was read from the file, so it needs its `line`; otherwise the file needs `read: notes`"
    if fact.means is not None and fact.note is None:
        yield f"{fact.key} means {fact.means!r} here: a `note` must say why"
