"""Every detection row of the paper, one real step through its own manifest at 256 x 256."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("mmdet", reason="needs pip install '.[dense]'")

from small import settings_in

from benchmark.dense.training import carried_out
from benchmark.experiment import Run, Selection, make_plan
from benchmark.manifest import load, suite_path

SUITES = ("table4", "table5", "table12", "section_c5", "figure2")
# One of each family in every test run: these rows, the rest with -m slow.
QUICK = {
    "retinanet_r50_fpn": "diffkd",
    "faster_rcnn_r50_fpn": "none",
    "fcos_r50": "none",
    "reppoints_r50": "none",
}


def every_run() -> list[Run]:
    suites = [load(suite_path(name)) for name in SUITES]
    plan = make_plan(suites, Selection(profile="smoke", all_rows=True, absent=frozenset({"coco2017"})))
    left = [f"{cell.id}: {why}" for cell, why in plan.left_out]
    assert not left, left
    return [run for run in plan.runs if run.repetition == 0]


def _marked(runs: list[Run]) -> list[object]:
    quick = dict(QUICK)
    found: list[object] = []
    for run in runs:
        experiment = run.experiment
        name = f"{experiment.pair}-{experiment.method.name}-{experiment.identity[:4]}"
        chosen = experiment.recipe is not None and experiment.method.name.startswith(
            quick.get(experiment.student, "nothing")
        )
        if chosen:
            del quick[experiment.student]
        found.append(pytest.param(run, id=name, marks=[] if chosen else [pytest.mark.slow]))
    return found


@pytest.mark.parametrize("run", _marked(every_run()))
def test_the_row_takes_a_real_step(run: Run, workplace: Path) -> None:
    lines: list[str] = []
    record = carried_out(run, settings_in(workplace, lines=lines))
    assert record.status == "done", record.reason
    assert 0 <= record.last["ap"] <= 100
    assert [line for line in lines if "NOT COCO" in line]
    if run.experiment.recipe is None:
        assert [line for line in lines if "RANDOM WEIGHTS" in line]
        return
    assert record.tracked["task"] > 0
    assert all(value == value for value in record.tracked.values())
    if run.experiment.teacher is not None:
        assert record.teacher is not None and "RANDOM" in record.teacher["stand_in"]
        terms = [name for name in record.tracked if name not in ("task", "total") and not name.startswith("task.")]
        assert terms, record.tracked
    assert record.effective["mmcv_ops"]
