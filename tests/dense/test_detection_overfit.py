"""A handful of images is learned by heart: the plain RetinaNet, and one that DiffKD teaches from the same start."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from detection_runs import DIFFKD, carry_out, suite
from small import store_in

from benchmark.experiment import Experiment, Run, Selection, make_plan
from benchmark.manifest import load

EPOCHS = 20
LR = 1e-3  # a random, frozen-normalised backbone does not stand the recipe's rate


def slower(experiment: Experiment) -> Experiment:
    assert experiment.recipe is not None
    teacher = slower(experiment.teacher) if isinstance(experiment.teacher, Experiment) else experiment.teacher
    return replace(
        experiment, recipe=experiment.recipe.model_copy(update={"lr": LR, "warmup_lr": 1e-5}), teacher=teacher
    )


def curve(run: Run, folder: Path, column: str) -> list[float]:
    with store_in(folder).paths(run).curves.open() as file:
        return [float(row[column]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_diffkd_learns_a_handful_of_images_as_the_plain_student_does(workplace: Path) -> None:
    path = suite(
        workplace,
        {"Student": {"method": "none"}, "DiffKD": {"method": DIFFKD}},
        setting={"teacher": "retinanet_r50_fpn"},
        profile={"epochs": EPOCHS, "train": 4, "test": 2, "batch": 2, "short_side": 128},
    )
    plan = make_plan([load(path)], Selection(absent=frozenset({"coco2017"}), all_rows=True))
    runs = [Run(slower(run.experiment), 0) for run in plan.runs]
    plain, taught = sorted(runs, key=lambda run: run.experiment.teacher is not None)
    # The plain student is the teacher: what it has learned by heart, the other learns from the same start.
    assert isinstance(taught.experiment.teacher, Experiment)
    assert taught.experiment.teacher.identity == plain.experiment.identity
    for run in (plain, taught):
        assert carry_out(run, workplace).status == "done"
    tasks = {name: curve(run, workplace, "train.task") for name, run in (("plain", plain), ("DiffKD", taught))}
    for name, values in tasks.items():
        print(f"task loss, {name}: " + " ".join(f"{value:.3f}" for value in values))
        assert len(values) == EPOCHS
        assert min(values[-3:]) < 0.7 * values[0]
    for level in range(3):
        distances = curve(taught, workplace, f"train.diffkd.feature_{level}.distillation")
        print(f"distillation, fpn.{level}: " + " ".join(f"{value:.3f}" for value in distances))
        assert min(distances[-3:]) < distances[0]
