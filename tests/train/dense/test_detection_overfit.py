"""A handful of images is learned by heart: by a plain RetinaNet, and by one that DiffKD teaches from the same start."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from detection_runs import runs_by_row, suite
from small import settings_in, store_in
from torch import Tensor, nn

from benchmark.models import openmmlab
from benchmark.plan.experiment import Run
from benchmark.train.dense.feeding import training_loader
from benchmark.train.dense.generators import own_generators
from benchmark.train.dense.mmengine_loop import DenseTraining

pytestmark = pytest.mark.usefixtures("without_gradient_norms")
LR, CLIP = 0.01, 5.0  # the rate is the recipe's; clipped, for without its 500 steps of warm-up it diverges
PROFILE = {"epochs": 40, "train": 4, "test": 1, "batch": 2, "short_side": 64}
WEIGHTS = {
    "student_weights": "backbone.pth",
    "teacher": {"model": "retinanet_r50_fpn", "weights": "teacher.pth"},
}


def built(run: Run, folder: Path) -> DenseTraining:
    assert run.experiment.recipe is not None
    clipped = replace(run.experiment, recipe=run.experiment.recipe.model_copy(update={"clip_grad": CLIP}))
    return DenseTraining(Run(clipped, run.repetition), settings_in(folder))


def scaled_backbone(folder: Path) -> dict[str, Tensor]:
    """Random weights whose batch norms know the images, as those of a backbone that has learned from others do.

    RetinaNet keeps its backbone's batch norms as they are. Those of a fresh one change nothing, so its maps are a
    hundredth of what the heads expect, and with their small weights no gradient to speak of comes back.
    """
    training = built(runs_by_row(suite(folder, profile=PROFILE))["Student"], folder)
    network: Any = training.parts.student.network
    for module in network.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):  # mmdet starts the last one of a block at zero
            nn.init.ones_(module.weight)
            module.momentum = None  # statistics over all batches alike
            module.reset_running_stats()
            module.train()
    with torch.no_grad():
        for batch in training_loader(training.data, training.order):
            network.backbone(network.data_preprocessor(batch, True)["inputs"])
    found: dict[str, Tensor] = network.backbone.state_dict()
    return found


def curves(training: DenseTraining) -> dict[str, list[float]]:
    """Means of each epoch, by name."""
    with training.books.paths.curves.open() as file:
        rows = list(csv.DictReader(file))
    columns = {name: [float(row[name]) for row in rows] for name in rows[0] if wanted(name)}
    return {name.removeprefix("train."): values for name, values in columns.items()}


def wanted(column: str) -> bool:
    return column.startswith("train.") and ".bin" not in column  # histograms are not of every epoch


def copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.slow
def test_diffkd_learns_a_handful_of_images_as_the_plain_student_does(workplace: Path) -> None:
    """The plain student is the teacher: what it has learned by heart, the other learns from the same start."""
    weights = store_in(workplace).runs / "weights"
    weights.mkdir(parents=True)
    (workplace / "before").mkdir()
    with openmmlab.scope("mmdet"), own_generators("fp32", torch.device("cpu")):
        torch.save(scaled_backbone(workplace / "before"), weights / "backbone.pth")
        runs = runs_by_row(suite(workplace, setting=WEIGHTS, profile=PROFILE), LR)
        plain = built(runs["Student"], workplace)
        start = copied(plain.parts.student.network)
        assert plain.run().status == "done"
        shutil.copy(plain.books.paths.student, weights / "teacher.pth")

        taught = built(runs["DiffKD"], workplace)
        student = taught.parts.student.network
        assert all(torch.equal(start[name], tensor) for name, tensor in student.state_dict().items())
        assert taught.parts.teacher is not None and not taught.parts.notes
        teacher = taught.parts.teacher.network
        known = copied(teacher)
        assert taught.run().status == "done"

    found = {"plain": curves(plain), "DiffKD": curves(taught)}
    for row, terms in found.items():
        for name, values in terms.items():
            print(f"{row}, {name}: " + " ".join(f"{value:.3f}" for value in values))
    for row, terms in found.items():
        for name, factor in {"task": 0.6, "task.loss_cls": 0.7, "task.loss_bbox": 0.8}.items():
            assert sum(terms[name][-5:]) / 5 < factor * terms[name][0], f"{row}: {name}"
    assert all(torch.equal(known[name], tensor) for name, tensor in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())
    moved = {name for name, tensor in student.state_dict().items() if not torch.equal(tensor, start[name])}
    assert moved >= {name for name, p in student.named_parameters() if p.requires_grad}
