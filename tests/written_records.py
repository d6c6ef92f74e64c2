"""A small table with published numbers, and records of its runs, written without training anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from benchmark.judge.bridges import Bridge
from benchmark.judge.compare import Sources, compare
from benchmark.judge.views import CellView, Comparison, Mode
from benchmark.machine.provenance import source_hash
from benchmark.paper.datasets import STAND_INS
from benchmark.paper.manifest import load
from benchmark.paper.readings import FOLDER
from benchmark.paper.suite import Cell, Suite
from benchmark.plan.experiment import Experiment, Run, experiment_of
from benchmark.records.evidence import ProblemKind
from benchmark.records.store import Record, RunPaths, Store

SETTING = {
    "task": "classification",
    "data": "cifar100",
    "teacher": "resnet56",
    "student": "resnet20",
    "recipe": "A1",
    "epoch": "last",
}
TABLE: dict[str, Any] = {
    "suite": "small",
    "title": "A small table",
    "source": "A paper, Table 9",
    "paper": "diffkd",
    "table": "9",
    "repetitions": 5,
    "setting": SETTING,
    "columns": [{"column": "Top-1", "metric": "top1"}],
    "rows": [
        {"row": "Teacher", "subject": "teacher", "standing": "cited", "cells": "72.34"},
        {"row": "Student", "method": "none", "standing": "cited", "cells": "69.06"},
        {"row": "KD", "method": "kd", "standing": "cited", "cells": "70.66±0.24"},
        {"row": "MSE", "method": "mse", "standing": "authors", "cells": "71.00"},
        {"row": "DiffKD", "method": "diffkd", "standing": "authors", "cells": "71.92±0.14"},
    ],
}
CLAIMS = {
    "claims": [
        {
            "id": "above-kd",
            "text": "paper",
            "where": "abstract",
            "quote": "better than KD",
            "kind": "ordering",
            "check": 'cell("9", "DiffKD", "Top-1") > cell("9", "KD", "Top-1")',
        }
    ]
}
# What somebody else got for KD.
RERUN = {
    "row": "KD",
    "printed": "70.66±0.24",
    "reruns": [{"text": "text", "cells": "72.5", "protocol": "the same"}],
}
# Around 0, with a sample standard deviation of 0.05, 0.2 and 0.6.
TIGHT = (-0.06, -0.03, 0.0, 0.03, 0.06)
USUAL = (-0.24, -0.12, 0.0, 0.12, 0.24)
WIDE = (-0.72, -0.36, 0.0, 0.36, 0.72)


@dataclass(frozen=True)
class Bench:
    """A folder with suites, claims and records, and the comparison of these records."""

    root: Path

    @property
    def store(self) -> Store:
        return Store(self.root / "results", self.root / "runs")

    @property
    def suites(self) -> Path:
        return self.root / "suites"

    @property
    def claims(self) -> Path:
        return self.root / "claims.yaml"

    @property
    def bridges(self) -> Path:
        return self.root / "bridges.json"

    def table(self, name: str = "small", **changes: Any) -> Suite:
        """Write the table with changes, and the claims if there are none yet."""
        self.suites.mkdir(parents=True, exist_ok=True)
        path = self.suites / f"{name}.yaml"
        path.write_text(
            yaml.safe_dump(
                TABLE | {"suite": name, "table": "9" if name == "small" else name} | changes,
                sort_keys=False,
                allow_unicode=True,
            )
        )
        if not self.claims.exists():
            self.claims.write_text(yaml.safe_dump(CLAIMS))
        return load(path)

    def readings(self, *rows: dict[str, Any], name: str = "small") -> None:
        """Write what a text has of the table's numbers, which must exist."""
        folder = self.suites / FOLDER
        folder.mkdir(exist_ok=True)
        texts = {"text": {"name": "A text", "where": "its Table 1"}}
        written = {"suite": name, "texts": texts, "rows": list(rows)}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(written, sort_keys=False, allow_unicode=True))

    def compare(self, mode: Mode = "paper", *folders: Path, only: Sequence[str] = ()) -> Comparison:
        smoke = self.store.runs / "records"
        places = folders or (self.store.results, *((smoke,) if smoke.is_dir() else ()))
        return compare(Sources(places, mode, tuple(only), self.suites, self.claims, self.bridges))

    def cell(self, row: str, mode: Mode = "paper", column: str = "Top-1") -> CellView:
        return cell_of(self.compare(mode), row, column)


def cell_of(comparison: Comparison, row: str, column: str = "Top-1") -> CellView:
    found = [cell for cell in comparison.cells if (cell.row, cell.column) == (row, column)]
    assert len(found) == 1
    return found[0]


def experiment(suite: Suite, row: str, profile: Any = None, stand_in: bool = False) -> Experiment:
    """Return the experiment of a row's first cell; with `stand_in`, on generated images."""
    name = profile or suite.file.profile
    found = experiment_of(find(suite, row), name, suite.profile(name), stand_in, STAND_INS if stand_in else ())
    assert found is not None
    return found


def find(suite: Suite, row: str) -> Cell:
    return next(cell for cell in suite.cells if cell.row == row)


def record_of(made: Experiment, repetition: int, top1: float, **changes: Any) -> Record:
    """Write the record of a finished run, whose best epoch is 0.01 higher."""
    teacher = {"weights_sha256": "7" * 64, "top1": 72.34, "top5": 91.0} if made.teacher is not None else None
    facts: dict[str, Any] = {
        "identity": made.identity,
        "repetition": repetition,
        "status": "done",
        "experiment": made.describe(),
        "last": {"top1": round(top1, 4), "top5": 91.0},
        "best": {"top1": round(top1 + 0.01, 4), "top5": 91.0},
        "best_epoch": 230,
        "teacher": teacher,
        "data": {"name": made.data.name},
        "effective": {"device": "cpu", "precision": made.precision},
        "seconds": 60.0,
        "code": {"commit": "c" * 40, "dirty": False, "source_sha256": source_hash()},
        "packages": {"torch": "2.14.1"},
        "hardware": {"cpu": "a processor"},
        "finished": f"2026-01-0{repetition + 1}T00:00:00+00:00",
    }
    return Record(**(facts | changes))


def write(store: Store, made: Experiment, values: Sequence[float], **changes: Any) -> list[RunPaths]:
    """Write one record for each value, as repetitions 0, 1, ..."""
    for repetition, value in enumerate(values):
        store.write(Run(made, repetition), record_of(made, repetition, value, **changes))
    return [store.paths(Run(made, repetition)) for repetition in range(len(values))]


def bridge_between(before: str, after: str, **changes: Any) -> Bridge:
    usual: dict[str, Any] = {
        "before": before,
        "after": after,
        "commits": ("a" * 40, "b" * 40),
        "task": "classification",
        "networks": "cifar/resnet",
        "computed": "cpu, eager, fp32",
        "methods": {"kd": 1, "none": 2},
        "form": "2 epochs of 320 images",
        "machine": "a processor",
        "finished": "2026-01-01T00:00:00+00:00",
    }
    return Bridge(**usual | changes)


def around(value: float, offsets: Sequence[float]) -> list[float]:
    return [value + offset for offset in offsets]


def other_machine(store: Store, name: str) -> Store:
    """Return the store of another machine."""
    return replace(store, results=store.results.with_name(name))


def problems(comparison: Comparison, kind: ProblemKind) -> list[str]:
    return [f"{problem.where}: {problem.message}" for problem in comparison.inputs.problems if problem.kind is kind]


def edit(path: Path, **changes: Any) -> None:
    """Change fields of a record file without the program's knowledge."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
