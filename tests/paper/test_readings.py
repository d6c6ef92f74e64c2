"""Readings of the paper's numbers in other texts: held to the tables, and to the notes that they were made from."""

from __future__ import annotations

import csv
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmark.errors import UsageError
from benchmark.machine.plugins import ROOT
from benchmark.machine.shipped import SUITES
from benchmark.paper.manifest import load, load_all
from benchmark.paper.readings import FOLDER, Elsewhere, load_readings
from benchmark.paper.suite import Cell

NOTES = ROOT.parent / "shared" / "paper"  # where the readings were noted first; not part of the project
# Lines that only the project has: the suites' own lists had them.
MORE_READINGS, MORE_RERUNS = 1, 9


@cache
def everything() -> dict[str, tuple[Cell, Elsewhere]]:
    found = {}
    for suite in load_all():
        cells = {cell.id: cell for cell in suite.cells}
        found |= {ident: (cells[ident], read) for ident, read in load_readings(suite).items()}
    return found


def test_each_file_is_read_with_a_suite() -> None:
    assert {path.name for path in (SUITES / FOLDER).iterdir()} <= {path.name for path in SUITES.glob("*.yaml")}


def test_every_cited_number_was_looked_for() -> None:
    cited = {c.id for suite in load_all() for c in suite.cells if c.standing == "cited" and c.printed is not None}
    assert cited and cited <= everything().keys()


def test_only_cited_numbers_have_a_source() -> None:
    assert {cell.standing for cell, read in everything().values() if read.readings} == {"cited"}


def test_every_rerun_says_how_it_was_made() -> None:
    reruns = [rerun for _, read in everything().values() for rerun in read.reruns]
    assert all(rerun.protocol and rerun.source for rerun in reruns)


def noted(name: str) -> Iterator[dict[str, str]]:
    path = NOTES / name
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    with path.open(encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)


def key(cell: Cell) -> tuple[str, ...]:
    return cell.table, cell.group, cell.row, cell.column, cell.metric


def test_every_noted_reading_is_here() -> None:
    place = ("table", "group", "row", "column", "metric")
    there = Counter(
        (
            *(line[name] for name in (*place, "printed", "source_value", "source_name", "source_where")),
            re.split(r"[ ;:]", line["note"])[0].lower(),  # PRIMARY, SECONDARY, OTHER-VARIANT, ...
        )
        for line in noted("sources.tsv")
    )
    here = Counter(
        (*key(cell), cell.printed, one.printed, one.source, one.where, one.kind)
        for cell, read in everything().values()
        for one in read.readings
    )
    assert there <= here and (here - there).total() == MORE_READINGS


def test_every_noted_rerun_is_here() -> None:
    place = ("table", "group", "row", "column", "metric")
    there = Counter(
        (*(line[name] for name in place), line["value"] + f"±{line['std']}" * bool(line["std"]), line["source_where"])
        for line in noted("reruns.tsv")
    )
    here = Counter(
        (*key(cell), printed, one.where)
        for cell, read in everything().values()
        for one in read.reruns
        for printed in one.printed
    )
    assert there <= here and (here - there).total() == MORE_RERUNS


# What is refused

SUITE: dict[str, Any] = {
    "suite": "small",
    "title": "A small table",
    "source": "somewhere",
    "setting": {"task": "classification", "data": "cifar100", "student": "resnet20", "teacher": "resnet56"},
    "columns": [{"column": "A", "recipe": "A1"}, {"column": "B", "recipe": "A1"}],
    "rows": [
        {"row": "KD", "method": "kd", "standing": "cited", "cells": "70.66 72.10"},
        {"row": "MSE", "method": "mse", "standing": "cited", "cells": "71.00 -"},
    ],
}
READINGS: dict[str, Any] = {
    "suite": "small",
    "texts": {"crd": {"name": "CRD", "where": "README"}},
    "rows": [
        {
            "row": "KD",
            "printed": "70.66 72.10",
            "sources": [{"text": "crd", "kind": "primary", "cells": "70.66 -"}],
            "reruns": [{"text": "crd", "cells": "70.1,70.2 72.0±0.1", "protocol": "the same"}],
        }
    ],
}


def read_from(folder: Path, readings: dict[str, Any]) -> dict[str, Elsewhere]:
    (folder / FOLDER).mkdir()
    (folder / "small.yaml").write_text(yaml.safe_dump(SUITE))
    (folder / FOLDER / "small.yaml").write_text(yaml.safe_dump(readings))
    return dict(load_readings(load(folder / "small.yaml")))


def test_the_documented_example_can_be_read(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(suite: table9\n.*?)```", (ROOT / "docs/verdicts.md").read_text(), re.DOTALL)
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "table9.yaml").write_text(example)
    found = load_readings(load(Path(shutil.copy(SUITES / "table9.yaml", tmp_path))))
    assert [len(read.readings) for read in found.values()] == [1] * 6
    assert [len(read.reruns) for read in found.values()] == [0, 1, 0, 0, 0, 0]


def test_a_line_gives_each_cell_its_number(tmp_path: Path) -> None:
    found = read_from(tmp_path, READINGS)
    assert found.keys() == {"small/KD/A", "small/KD/B"}
    (one,) = found["small/KD/A"].readings
    assert (one.printed, one.kind, one.source, one.where) == ("70.66", "primary", "CRD", "README")
    assert found["small/KD/B"].readings == ()
    runs = [(rerun.printed, rerun.runs) for read in found.values() for rerun in read.reruns]
    assert runs == [(("70.1", "70.2"), 2), (("72.0±0.1",), None)]


def changed(**row: Any) -> dict[str, Any]:
    return READINGS | {"rows": [READINGS["rows"][0] | row]}


@pytest.mark.parametrize(
    ("readings", "said"),
    [
        (changed(printed="70.66 72.11"), "printed '70.66 72.11', but small.yaml has '70.66 72.10'"),
        (changed(row="KDD"), "no further row 'KDD'; did you mean 'KD'"),
        (READINGS | {"rows": READINGS["rows"] * 2}, "no further row 'KD'"),
        (changed(sources=[{"text": "crdd", "kind": "primary", "cells": "1 2"}]), "no text 'crdd'; did you mean 'crd'"),
        (changed(sources=[{"text": "crd", "kind": "primary", "cells": "70.66"}]), "1 cells for 2 columns"),
        (changed(sources=[{"text": "crd", "kind": "primary", "cells": "70.66 72,1"}]), "'72,1' is not a number"),
        (changed(sources=[{"text": "crd", "kind": "first", "cells": "1 2"}]), "kind: input should be 'primary'"),
        (changed(sources=[{"text": "crd", "kind": "primary", "cells": "1 2", "nota": ""}]), "did you mean 'note'"),
        (changed(row="MSE", printed="71.00 -"), "the suite prints no number for small/MSE/B"),
        (READINGS | {"suite": "large"}, "`suite` is 'large', but the file is named small.yaml"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, readings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)) as raised:
        read_from(tmp_path, readings)
    assert re.search(r"readings/small.yaml:\d+: ", raised.value.message)
