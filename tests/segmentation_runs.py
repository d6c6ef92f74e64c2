"""Segmentation runs small enough for a test: PSPNets on generated street scenes, in crops of 48 x 96 pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small import settings_in, write_suite

pytest.importorskip("mmseg", reason="needs pip install '.[dense]'")

from benchmark.paper.manifest import load
from benchmark.plan.experiment import Experiment, Run, Selection, make_plan
from benchmark.records.store import Record
from benchmark.train.dispatch import Dispatcher
from benchmark.train.trainer import record_from

PROFILE = {"epochs": 2, "train": 4, "test": 2, "batch": 2, "crop": [48, 96]}
SETTING = {
    "task": "segmentation",
    "data": "cityscapes",
    "student": "pspnet_resnet18",
    "teacher": {"model": "deeplabv3_resnet18", "weights": "teacher.pth"},
    "recipe": "cityscapes-40k",
}
DIFFKD = {"diffkd": {"branches": ["feature"], "feature_tap": "seg_logits", "feature_distance": {"dist": {}}}}
ROWS: dict[str, dict[str, Any]] = {"Student": {"method": "none"}, "DiffKD": {"method": DIFFKD}}


def suite(folder: Path, rows: dict[str, dict[str, Any]] | None = None, **more: Any) -> Path:
    """Write a suite with one column, mIoU."""
    return write_suite(
        folder / "small_segmentation.yaml",
        ROWS if rows is None else rows,
        SETTING | more.pop("setting", {}),
        PROFILE | more.pop("profile", {}),
        columns=[{"column": "mIoU", "metric": "miou"}],
        **more,
    )


def runs_by_row(path: Path, **recipe: Any) -> dict[str, Run]:
    """Return repetition 0 of each row's experiment, on generated images, with changes to the recipe."""
    plan = make_plan([load(path)], Selection(absent=frozenset({"cityscapes"}), all_rows=True))
    found = {}
    for run in plan.runs:
        experiment = run.experiment
        row = plan.cells[experiment.identity][0].row if experiment.identity in plan.cells else "teacher"
        found[row] = Run(_changed(experiment, recipe), 0)
    return found


def _changed(experiment: Experiment, recipe: dict[str, Any]) -> Experiment:
    """Change a trained teacher in the same way: it is found by its experiment."""
    teacher = experiment.teacher
    if isinstance(teacher, Experiment):
        teacher = _changed(teacher, recipe)
    settings = experiment.recipe.model_copy(update=recipe) if experiment.recipe else None
    return replace(experiment, recipe=settings, teacher=teacher)


def carry_out(run: Run, folder: Path, **settings: Any) -> Record:
    """Train a run below a folder, or evaluate its given weights."""
    return record_from(Dispatcher(settings_in(folder, **settings)).steps(run))
