"""Numbers of a suite's table as read in other texts, from suites/readings/: what sources print, and what others got.

One file a suite. It repeats rows as printed, and has below each one line for every text: `sources` print the same
numbers, `reruns` are results of others. A line has the columns of the suite, and `-` where the text has no number. A
cited number in the file was looked for, even if no text has it. What lists or runs suites reads none of this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from pydantic import Field

from benchmark.errors import nearest
from benchmark.paper.manifest import NUMBER
from benchmark.paper.suite import Cell, Suite
from benchmark.paper.yamlfile import Place, Strict, YamlFile

FOLDER = "readings"  # of the folder of suites
FIX = "docs/verdicts.md, Four kinds of evidence, has the form of a reading"

Kind = Literal["primary", "secondary", "derived", "computed", "other-variant"]


class Text(Strict):
    """A text in which numbers were read."""

    name: str
    where: str = Field("", description="the file and its revision, or the table of a paper")
    note: str = Field("", description="said of each of its numbers that has no note of its own")


class Line(Strict):
    """The numbers of one text in one row."""

    text: str = Field(description="one of the file's texts")
    cells: str
    where: str | None = Field(None, description="instead of the text's own")


class SourceLine(Line):
    """The same numbers as a text prints them."""

    kind: Kind
    setting: str | None = Field(None, description="how the protocol of this text differs from the table's")
    note: str | None = None


class RerunLine(Line):
    """What others got. Several runs of one number are joined by commas: `71.69,71.82,71.90`."""

    protocol: str
    comparable: bool = Field(False, description="trained under a protocol that is close enough to be judged")
    runs: int | None = Field(None, gt=0, description="number of runs behind each number, if known")


class ReadRow(Strict):
    """A row of the suite with the lines that were read of it."""

    row: str
    group: str = ""
    printed: str = Field(description="its cells as the suite has them")
    sources: list[SourceLine] = []
    reruns: list[RerunLine] = []


class ReadingsFile(Strict):
    """A file of readings as written."""

    suite: str
    texts: dict[str, Text] = {}
    rows: list[ReadRow]


@dataclass(frozen=True)
class Reading:
    """One number as a text prints it."""

    printed: str
    kind: Kind
    source: str
    where: str
    setting: str  # how the protocol of this text differs from the table's; empty if it does not
    note: str


@dataclass(frozen=True)
class Rerun:
    """What somebody else got for a number: single runs, or one mean."""

    printed: tuple[str, ...]  # 71.69, 71.82, 71.90, or a mean with its standard deviation: 74.43±0.24
    runs: int | None  # how many there were, None if that is not known
    comparable: bool
    protocol: str
    source: str
    where: str


@dataclass(frozen=True)
class Elsewhere:
    """All that was read of one number in other texts."""

    readings: tuple[Reading, ...]
    reruns: tuple[Rerun, ...]


def readings_path(suite: Suite) -> Path:
    """Return the path of a suite's readings. Few suites have them."""
    return suite.path.parent / FOLDER / suite.path.name


def load_readings(suite: Suite) -> Mapping[str, Elsewhere]:
    """Return what other texts have of a suite's numbers, by cell. A number that nobody looked for is left out.

    Raises:
        UsageError: the file has mistakes, or repeats other numbers than the suite has.
    """
    path = readings_path(suite)
    if not path.is_file():
        return {}
    file = YamlFile(path)
    parsed = file.typed(ReadingsFile, file.data, ())
    found = dict(_read(parsed, suite, file)) if parsed is not None else {}
    file.check(FIX)
    return found


def _read(parsed: ReadingsFile, suite: Suite, file: YamlFile) -> Iterator[tuple[str, Elsewhere]]:
    if parsed.suite != suite.name:
        file.complain(("suite",), f"`suite` is {parsed.suite!r}, but the file is named {file.path.name}")
    rows = {key: list(cells) for key, cells in groupby(suite.cells, lambda cell: (cell.group, cell.row))}
    for index, row in enumerate(parsed.rows):
        place: Place = ("rows", index)
        cells = rows.pop((row.group, row.row), None)
        if cells is None:
            known = [f"{name} in {group}" if group else name for group, name in rows]
            asked = f"{row.row} in {row.group}" if row.group else row.row
            file.complain((*place, "row"), f"no further row {asked!r}; {nearest(asked, known)}")
            continue
        printed = " ".join(cell.printed or "-" for cell in cells)
        if row.printed.split() != printed.split():
            file.complain((*place, "printed"), f"printed {row.printed!r}, but {suite.path.name} has {printed!r}")
        yield from _row(row, cells, parsed.texts, file, place)


def _row(
    row: ReadRow, cells: list[Cell], texts: Mapping[str, Text], file: YamlFile, place: Place
) -> Iterator[tuple[str, Elsewhere]]:
    readings: list[list[Reading]] = [[] for _ in cells]
    reruns: list[list[Rerun]] = [[] for _ in cells]
    for number, source in enumerate(row.sources):
        for column, text, printed in _numbers(source, cells, texts, file, (*place, "sources", number)):
            note = text.note if source.note is None else source.note
            at = source.where or text.where
            readings[column].append(Reading(printed, source.kind, text.name, at, source.setting or "", note))
    for number, other in enumerate(row.reruns):
        for column, text, printed in _numbers(other, cells, texts, file, (*place, "reruns", number)):
            each = tuple(printed.split(","))
            runs = len(each) if len(each) > 1 else other.runs
            at = other.where or text.where
            reruns[column].append(Rerun(each, runs, other.comparable, other.protocol, text.name, at))
    for cell, read, others in zip(cells, readings, reruns, strict=True):
        if cell.printed is not None:
            yield cell.id, Elsewhere(tuple(read), tuple(others))


def _numbers(
    line: Line, cells: list[Cell], texts: Mapping[str, Text], file: YamlFile, place: Place
) -> Iterator[tuple[int, Text, str]]:
    """Yield the column, the text and the number of each cell that a line has a number for."""
    text, numbers = texts.get(line.text), line.cells.split()
    if text is None:
        file.complain((*place, "text"), f"no text {line.text!r}; {nearest(line.text, texts)}")
    elif len(numbers) != len(cells):
        file.complain((*place, "cells"), f"{len(numbers)} cells for {len(cells)} columns")
    else:
        for column, printed in enumerate(numbers):
            if printed == "-":
                continue
            if not all(map(NUMBER.match, printed.split(",") if isinstance(line, RerunLine) else [printed])):
                file.complain((*place, "cells"), f"{printed!r} is not a number such as 71.98 or 72.24±0.24, nor -")
            elif cells[column].printed is None:
                file.complain((*place, "cells"), f"{printed}, but the suite prints no number for {cells[column].id}")
            else:
                yield column, text, printed
