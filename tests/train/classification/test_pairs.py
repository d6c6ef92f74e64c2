"""One training step of every pair of Table 9 and of the KDiffusion slides, with every core method."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small import data_of, run_suite, settings_in, store_in
from torch import nn

from benchmark.machine.streams import initialising
from benchmark.models.registry import model
from benchmark.paper.manifest import load, suite_path
from benchmark.paper.suite import Suite, TeacherSpec
from benchmark.plan.experiment import Data, Experiment, Run, Selection, make_plan
from benchmark.train.classification.training import Training
from benchmark.train.settings import Settings
from benchmark.train.trainer import record_from

CORE = {"none", "kd", "dkd", "dist", "reviewkd", "fitnet", "mse", "diffkd"}
IMAGES = Data("generated", train=8, test=10)


def pairs(suite: Suite) -> set[tuple[object, object]]:
    return {(column.teacher, column.student) for column in suite.file.columns}


def test_the_suite_has_every_pair_and_every_core_method() -> None:
    suite = load(suite_path("smoke_pairs"))
    assert pairs(suite) == pairs(load(suite_path("table9"))) | pairs(load(suite_path("kdiffusion_cifar100")))
    assert {row.method for row in suite.file.rows} == CORE
    assert suite.file.profile == "smoke"
    plan = make_plan([suite], Selection(stand_in=True))
    assert plan.left_out == []
    served = {(cell.row, cell.column) for cells in plan.cells.values() for cell in cells}
    assert len(served) == len(suite.file.rows) * len(suite.file.columns)
    recipes = {(c.teacher, c.student): c.recipe for c in suite.file.columns}
    for column in load(suite_path("table9")).file.columns:
        assert recipes[column.teacher, column.student] == column.recipe


def experiments() -> dict[str, Experiment]:
    plan = make_plan([load(suite_path("smoke_pairs"))], Selection(stand_in=True))
    students = (e for e in plan.experiments.values() if e.identity in plan.cells)
    return {f"{e.pair}-{e.method.name}": e for e in students}


EXPERIMENTS = experiments()


@pytest.fixture(scope="module")
def pinned_teacher(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TeacherSpec]:
    """A teacher with fresh weights as a checkpoint, written once."""
    folder = tmp_path_factory.mktemp("teachers")

    def written(name: str) -> TeacherSpec:
        path = folder / f"{name}.pt"
        if not path.exists():
            with initialising("test-teacher", 0, name), torch.no_grad():
                network = model(name).build(100)
                # Batch norms must know their inputs: deep networks of fresh weights overflow without.
                network.train()
                for module in network.modules():
                    if isinstance(module, nn.BatchNorm2d):
                        module.momentum = None
                        module.reset_running_stats()
                network(torch.randn(64, 3, 32, 32))
            torch.save(network.state_dict(), path)
        return TeacherSpec(model=name, weights=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())

    return written


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_one_step_by_the_path_of_a_real_run(
    name: str, pinned_teacher: Callable[[str], TeacherSpec], workplace: Path
) -> None:
    asked = EXPERIMENTS[name]
    assert asked.recipe is not None
    recipe = asked.recipe.scaled_to(1).model_copy(update={"batch": 8})
    teacher = pinned_teacher(asked.teacher_name) if asked.teacher is not None else None
    run = Run(replace(asked, data=IMAGES, recipe=recipe, teacher=teacher), 0)
    settings: Settings = settings_in(workplace)
    training = Training(run, data_of(run.experiment, settings), settings)
    before = {key: value.clone() for key, value in training.parts.distiller.state_dict().items()}

    record = record_from(training.advancing())

    assert record.status == "done", record.reason
    assert training.steps == 1
    assert all(math.isfinite(value) for value in record.tracked.values())
    if teacher is not None:
        assert set(record.tracked) > {"task", "total"}
        assert record.teacher is not None
        assert record.teacher.weights_sha256
    after = training.parts.distiller.state_dict()
    trained = {key for key, value in training.parts.distiller.named_parameters() if value.grad is not None}
    assert trained
    unmoved = [
        key
        for key in trained
        if torch.equal(after[key], before[key]) and training.parts.distiller.get_parameter(key).grad.any()
    ]
    assert unmoved == []
    exported = torch.load(store_in(workplace).paths(run).student, weights_only=True)
    fresh = model(asked.student).build(100)
    fresh.load_state_dict(exported)


@pytest.mark.slow
def test_kdiffusion_of_a_deep_teacher_does_not_diverge_in_profile_smoke(workplace: Path) -> None:
    """At the full rate, a ResNet-50 of a few steps has a loss of thousands, and its maps are as large."""
    suite = suite_path("kdiffusion_cifar100")
    assert run_suite(suite, "--profile", "smoke", "--only", "*/ResNet50 -> MobileNetV2") == 0
