"""A suite small enough to be trained in a second, and the command line called from Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import Any

import torch
import yaml

from benchmark.cli.parser import main
from benchmark.data.batches import ClassificationData
from benchmark.data.locate import resolve
from benchmark.paper.manifest import load
from benchmark.plan.experiment import Experiment, Plan, Run, Selection, make_plan
from benchmark.records.store import Record, Store
from benchmark.train.classification.classification_task import load_data
from benchmark.train.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
ROWS = {"Teacher": {"subject": "teacher"}, "Student": {"method": "none"}, "KD": {"method": "kd"}}
SETTING = {"task": "classification", "data": "cifar100", "teacher": "resnet14", "student": "resnet8", "recipe": "A1"}
PROFILE = {"epochs": 2, "train": 32, "test": 50, "batch": 16}  # two epochs of two steps


def write_suite(
    path: Path,
    rows: dict[str, dict[str, Any]] | None = None,
    setting: dict[str, Any] | None = None,
    profile: dict[str, Any] | None = None,
    **more: Any,
) -> Path:
    """Write a suite with one column."""
    content = {
        "suite": path.stem,
        "title": "Small",
        "source": "ours",
        "profile": "smoke",
        "setting": SETTING | (setting or {}),
        "profiles": {"smoke": PROFILE | (profile or {})},
        "columns": [{"column": "Top-1", "metric": "top1"}],
        "rows": [{"row": name, **row} for name, row in (ROWS if rows is None else rows).items()],
    }
    path.write_text(yaml.safe_dump(content | more, sort_keys=False))
    return path


def run_suite(path: Path, *more: str) -> int:
    """Run `python -m benchmark run` in this process."""
    return main(["run", str(path), "--threads", "1", "--device", "cpu", *more])


def command(*arguments: str) -> list[str]:
    """Return the command line for another process."""
    return [sys.executable, "-m", "benchmark", *arguments]


def environment(**more: str) -> dict[str, str]:
    """Return the environment of such a process: it finds the project in any folder, and warnings are errors."""
    return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"} | more


def call(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in another process."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, env=environment(**more), timeout=300)


def plan_of(path: Path, **selection: Any) -> Plan:
    """Return the plan of a suite on generated images."""
    return make_plan([load(path)], Selection(stand_in=True, **selection))


def runs_of(path: Path) -> dict[str, Run]:
    """Return repetition 0 of each experiment by its first row; a teacher without a row has the name `teacher`."""
    plan = plan_of(path)
    named = {run.experiment.identity: run for run in plan.runs if run.repetition == 0}
    rows = {identity: plan.cells[identity][0].row if identity in plan.cells else "teacher" for identity in named}
    return {rows[identity]: run for identity, run in named.items()}


def store_in(folder: Path) -> Store:
    """Return the store that the command line uses in a folder."""
    return Store(folder / "results", folder / "runs")


def record_of(run: Run, folder: Path) -> Record:
    """Return the run's record, which must exist."""
    found = store_in(folder).read(run)
    assert found is not None, f"no record of {run.label}"
    return found


def raw_record(run: Run, folder: Path) -> dict[str, Any]:
    """Return the content of the record file."""
    content: dict[str, Any] = json.loads(store_in(folder).paths(run).record.read_text())
    return content


def settings_in(folder: Path, **more: Any) -> Settings:
    """Return settings for runs that a test starts without the command line."""
    lines: list[str] = more.pop("lines", [])
    return Settings(
        store=store_in(folder),
        threads=1,
        source=resolve("generated", None, allow_download=False, allow_generated=True),
        say=lines.append,
        **more,
    )


def data_of(experiment: Experiment, settings: Settings) -> ClassificationData:
    """Return the experiment's images."""
    return load_data(experiment.data, settings.source, torch.device("cpu"), recipe=experiment.recipe)


class After(Event):
    """An event that becomes set after a number of `is_set` calls, to stop a run in the middle."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def is_set(self) -> bool:
        """Count down, and return True at zero."""
        self.times -= 1
        return self.times < 0
