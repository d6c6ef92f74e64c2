"""Detection runs small enough for a test: RetinaNets on generated images of 64 x 64 pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small import settings_in, write_suite

pytest.importorskip("mmdet", reason="needs pip install '.[dense]'")

from benchmark.paper.manifest import load
from benchmark.plan.experiment import Run, Selection, make_plan
from benchmark.records.store import Record
from benchmark.train.dense.trainer import Trainer
from benchmark.train.trainer import record_from

PROFILE = {"epochs": 2, "train": 4, "test": 2, "batch": 2, "short_side": 64}
TEACHER = {"model": "retinanet_r50_fpn", "weights": "mmdet:retinanet_r50_fpn_2x_coco_20200131-fdb43119.pth"}
SETTING = {
    "task": "detection",
    "data": "coco2017",
    "student": "retinanet_r50_fpn",
    "teacher": TEACHER,
    "recipe": "coco-2x-one-stage",
}
# At 64 pixels the coarsest levels are single cells: batch norms over two values make gradients of 1e12 there.
DIFFKD = {
    "diffkd": {"branches": ["feature"], "feature_tap": "fpn.[0-2]", "distillation_weight": 5},
    "regressionkd": {},
}
ROWS = {"Student": {"method": "none"}, "DiffKD": {"method": DIFFKD}}


def suite(folder: Path, rows: dict[str, dict[str, Any]] | None = None, **more: Any) -> Path:
    """Write a suite with one column, AP."""
    return write_suite(
        folder / "small_detection.yaml",
        ROWS if rows is None else rows,
        SETTING | more.pop("setting", {}),
        PROFILE | more.pop("profile", {}),
        columns=[{"column": "AP", "metric": "ap"}],
        **more,
    )


def runs_by_row(path: Path, lr: float = 1e-4) -> dict[str, Run]:
    """Return repetition 0 of each row's experiment, on generated images.

    The rate is lowered: random backbones would diverge at the recipe's.
    """
    plan = make_plan([load(path)], Selection(absent=frozenset({"coco2017"}), all_rows=True))
    found = {}
    for run in plan.runs:
        experiment = run.experiment
        assert experiment.recipe is not None
        slower = replace(experiment, recipe=experiment.recipe.model_copy(update={"lr": lr}))
        found[plan.cells[experiment.identity][0].row] = Run(slower, 0)
    return found


def carry_out(run: Run, folder: Path, **settings: Any) -> Record:
    """Train a run below a folder."""
    return record_from(Trainer(settings_in(folder, **settings)).train(run))
