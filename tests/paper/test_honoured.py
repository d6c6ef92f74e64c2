"""The settings of a recipe that are declared as honoured: each has an effect, and all others are refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small import run_suite, runs_of, settings_in, write_suite
from torch import nn

from benchmark.cli.parser import main
from benchmark.data.decode import Augmentation
from benchmark.errors import UsageError
from benchmark.launch.local import Local
from benchmark.paper.honoured import CHOICES, CLASSIFICATION, OPTIMIZERS, SCHEDULES, Honoured
from benchmark.paper.manifest import load_all
from benchmark.paper.recipe import NamedRecipe, Recipe, recipe, recipes
from benchmark.paper.tasks import TASKS
from benchmark.plan.experiment import Plan, Run
from benchmark.train.dense.configuration import optim_wrapper, schedulers
from benchmark.train.engine.optimizer import make_optimizer
from benchmark.train.engine.schedule import learning_rate

# Settings at other values than BASE has them.
BASE: dict[str, Any] = {"epochs": 8, "batch": 16, "lr": 0.1, "weight_decay": 0.01}
OTHER: dict[str, Any] = {
    "epochs": 6,
    "batch": 8,
    "per_device_batch": 4,
    "optimizer": "adamw",
    "lr": 0.2,
    "momentum": 0.5,
    "nesterov": True,
    "weight_decay": 0.5,
    "decay_vectors": False,
    "no_decay": ("0.weight",),
    "optimizer_eps": 0.1,
    "schedule": "cosine",
    "milestones": (2, 4),
    "decay": 0.5,
    "decay_epochs": 3.0,
    "power": 0.5,
    "min_lr": 0.05,
    "warmup_epochs": 2.0,
    "warmup_lr": 0.03,
    "after_warmup": True,
    "iterations": 40,
    "clip_grad": 3.0,
    "label_smoothing": 0.1,
    "ema": 0.9,
    "dropout": 0.2,
    "drop_path": 0.2,
    "augmentation": "inception",
    "short_sides": (64,),
    "crop": (48, 96),
    "evaluate_steps": 3,
    "interpolation": "bicubic",
    "randaugment": "rand-m9-mstd0.5",
    "randaugment_operations": "sota",
    "random_erasing": 0.2,
    "color_jitter": 0.4,
    "mixup": 0.8,
    "cutmix": 1.0,
}
OF_SCHEDULES = {name for settings in SCHEDULES.values() for name in settings}
OF_OPTIMIZERS = {name for settings in OPTIMIZERS.values() for name in settings}
# What has a meaning only beside another setting is tried beside it.
BESIDE: dict[str, dict[str, Any]] = {
    "warmup_lr": {"warmup_epochs": 1.0},
    "after_warmup": {"warmup_epochs": 1.0},
    "decay": {"milestones": (3,), "decay_epochs": 1.0},
}

Consumer = Callable[[Recipe], object]


def has_effect(name: str, consumer: Consumer, **chosen: str) -> bool:
    """Return True if a change of one setting changes what a consumer makes of the recipe."""
    settings = BASE | BESIDE.get(name, {}) | chosen
    return consumer(Recipe(**settings)) != consumer(Recipe(**settings | {name: OTHER[name]}))


def made(made_of: Recipe) -> object:
    optimizer = make_optimizer(made_of, [nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))])
    sized = [{**group, "params": [p.shape for p in group["params"]]} for group in optimizer.param_groups]
    return type(optimizer), sized


def rates(made_of: Recipe) -> object:
    return [learning_rate(made_of, done / 4) for done in range(32)]


def dense(made_of: Recipe) -> object:
    return optim_wrapper({}, made_of, "fp32"), schedulers({}, made_of, 10, made_of.iterations or 80)


def test_every_setting_is_tried() -> None:
    assert OTHER.keys() == Recipe.model_fields.keys()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizer_honours_what_changes_it(optimizer: str) -> None:
    tried = OF_OPTIMIZERS | {"lr", "weight_decay", "min_lr", "milestones", "power"}
    found = {name for name in tried if has_effect(name, made, optimizer=optimizer)}
    assert found == {"lr", "weight_decay", *OPTIMIZERS[optimizer]}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_honours_what_changes_its_rates(schedule: str) -> None:
    tried = OF_SCHEDULES | {"lr", "warmup_epochs", "warmup_lr", "momentum", "optimizer_eps"}
    found = {name for name in tried if has_effect(name, rates, schedule=schedule)}
    assert found == {"lr", "warmup_epochs", "warmup_lr", *SCHEDULES[schedule]}


@pytest.mark.parametrize("task", [task.name for task in TASKS.values() if task.openmmlab])
def test_a_dense_task_honours_what_changes_the_configuration_of_its_runner(task: str) -> None:
    (honoured,) = TASKS[task].honours.values()
    (schedule,) = honoured.schedule
    tried = OF_OPTIMIZERS | OF_SCHEDULES | {"lr", "weight_decay", "warmup_epochs", "warmup_lr", "clip_grad"}
    found = {name for name in tried if has_effect(name, dense, schedule=schedule)}
    said = honoured.names(Recipe(**BASE | BESIDE["warmup_lr"], schedule=schedule))
    assert found == tried.intersection(said)


def test_colour_jitter_is_honoured_where_randaugment_is_off() -> None:
    for randaugment in (None, "rand-m9-mstd0.5"):
        asked = Recipe(**BASE, augmentation="inception", color_jitter=0.4, randaugment=randaugment)
        assert ("color_jitter" in CLASSIFICATION["image folder"].names(asked)) == Augmentation.of(asked).jitters


@pytest.mark.parametrize(
    "asked", [each for task in TASKS.values() for each in task.honours.values()], ids=lambda asked: asked.name
)
def test_whatever_a_task_does_not_honour_is_refused_by_name(asked: Honoured) -> None:
    own = {choice: next(iter(getattr(asked, choice))) for choice in CHOICES}
    plain = Recipe(**BASE | BESIDE["warmup_lr"] | own)
    assert asked.unsupported(plain) == {}
    for name in Recipe.model_fields.keys() - {*CHOICES}:
        changed = plain.model_copy(update={name: OTHER[name]})
        assert (name in asked.unsupported(changed)) == (name not in asked.names(changed)), name
    for choice in CHOICES:
        for value in {*OPTIMIZERS, *SCHEDULES, "crop-flip", "inception", "detection", "segmentation"}:
            found = asked.unsupported(plain.model_copy(update={choice: value}))
            assert (choice in found) == (value not in getattr(asked, choice))


COCO, CITYSCAPES = {"task": "detection", "data": "coco2017"}, {"task": "segmentation", "data": "cityscapes"}


@pytest.mark.parametrize(
    ("name", "setting", "changes", "said"),
    [
        ("coco-2x", COCO, {"decay_vectors": False}, "decay_vectors False"),
        ("coco-2x", COCO, {"min_lr": 0.001}, "min_lr 0.001"),
        ("coco-2x", COCO, {"optimizer_eps": 0.01}, "optimizer_eps 0.01"),
        ("coco-2x", COCO, {"optimizer": "adamw"}, "optimizer adamw"),
        ("cityscapes-40k", CITYSCAPES, {"milestones": (3,)}, "milestones (3,)"),
        ("cityscapes-40k", CITYSCAPES, {"decay_epochs": 2.0}, "decay_epochs 2.0"),
        ("A1", {}, {"optimizer_eps": 0.001}, "optimizer_eps 0.001"),
        ("A1", {}, {"min_lr": 0.001}, "min_lr 0.001"),
        ("A1", {}, {"iterations": 40}, "iterations 40"),
        ("A1", {}, {"mixup": 0.8}, "mixup 0.8"),
        ("A1", {}, {"warmup_lr": 0.01}, "warmup_lr 0.01"),
        ("B1", {"data": "imagenet"}, {"augmentation": "crop-flip"}, "augmentation crop-flip"),
        ("B1", {"data": "imagenet"}, {"decay_epochs": 2.0}, "decay_epochs 2.0"),
    ],
)
def test_plan_and_run_refuse_what_would_not_be_carried_out_with_its_line_and_what_is_honoured(
    name: str,
    setting: dict[str, Any],
    changes: dict[str, Any],
    said: str,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    networks = {} if "task" not in setting else {"student": "retinanet_r50_fpn", "teacher": None}
    suite = write_suite(
        workplace / "mine.yaml", {"Student": {"method": "none"}}, {**setting, **networks, "recipe": name}
    )
    line = 1 + next(number for number, text in enumerate(suite.read_text().splitlines()) if f"recipe: {name}" in text)
    assert main(["plan", str(suite)]) == 0
    known = recipes()
    settings = known[name].settings.model_copy(update=changes)
    broken = NamedRecipe(settings=settings, source="ours")
    for module in ("manifest", "fitting"):
        monkeypatch.setattr(f"benchmark.paper.{module}.recipes", lambda: known | {name: broken})
    capsys.readouterr()
    assert main(["plan", str(suite)]) == 2
    shown = capsys.readouterr().err
    assert f"mine.yaml:{line}: recipe '{name}' has {said}: not supported; " in shown
    honours = shown.partition(" honours ")[2].partition(";")[0]
    assert honours.startswith("epochs, batch, per_device_batch, optimizer (sgd")
    assert said.partition(" ")[0] not in honours.split(", ")


def test_a_run_refuses_it_too_and_leaves_no_record(workplace: Path) -> None:
    suite = write_suite(workplace / "mine.yaml", {"Student": {"method": "none"}})
    experiment = runs_of(suite)["Student"].experiment
    assert experiment.recipe is not None
    changed = replace(experiment, recipe=experiment.recipe.model_copy(update={"min_lr": 0.001}))
    outcome = Local(settings_in(workplace)).execute(Plan(runs=[Run(changed, 0)]))
    ((_, reason),) = outcome.failed
    assert outcome.exit_code == 2
    assert re.search(r"min_lr 0.001: not supported; .* honours .*milestones, decay.*\n.*fix: .*A1, A1-small", reason)
    assert not list(workplace.rglob("r0.json"))


def test_every_recipe_of_every_suite_is_carried_out_but_for_what_it_says_is_ignored() -> None:
    assert {suite.name for suite in load_all()} > {"table3", "table4", "table6", "table9"}  # it raises for any other
    assert {name for name, known in recipes().items() if known.ignored} == {"B3", "B3-paper", "swin"}


def test_what_is_ignored_keeps_its_place_in_the_identity_and_has_no_effect() -> None:
    b3 = recipe("B3").settings
    without = b3.model_copy(update={"color_jitter": None})
    assert b3.canonical() != without.canonical()
    assert Augmentation.of(b3).jitters is False
    assert replace(Augmentation.of(b3), color_jitter=None) == Augmentation.of(without)


def test_a_run_says_and_records_what_is_ignored(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setting = {"data": "imagenet", "recipe": "B3", "teacher": None}
    sizes = {"epochs": 1, "train": 8, "test": 4, "batch": 4, "image_size": 32}
    suite = write_suite(workplace / "mine.yaml", {"Student": {"method": "none"}}, setting, sizes)
    assert run_suite(suite) == 0
    assert "resnet8/none #0: color_jitter 0.4 is ignored: where RandAugment is on" in capsys.readouterr().out
    (path,) = (workplace / "runs" / "records").rglob("r0.json")
    assert json.loads(path.read_text())["effective"]["ignored"].keys() == {"color_jitter 0.4"}


def test_a_recipe_cannot_ignore_what_it_does_not_set(tmp_path: Path) -> None:
    path = tmp_path / "recipes.yaml"
    path.write_text("A1:\n  source: ours\n  ignored: {min_lr: why}\n  settings: {epochs: 2, batch: 4, lr: 0.1}\n")
    with pytest.raises(UsageError, match=r"recipes.yaml:3: A1 ignores 'min_lr', which it does not set"):
        recipes(path)
