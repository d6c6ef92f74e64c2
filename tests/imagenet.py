"""A small folder of JPEG files, and suites that train on it, for tests of the code for ImageNet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from benchmark.data.batches import ClassificationData
from benchmark.data.locate import DataSource, resolve
from benchmark.paper.recipe import Recipe
from benchmark.plan.experiment import Data, Experiment, Run
from benchmark.records.store import Store
from benchmark.train.classification.classification_task import load_data
from benchmark.train.classification.training import Training
from benchmark.train.settings import Settings
from methods.spec import MethodSpec

CPU = torch.device("cpu")
SIZE = 32
FOLDER = Data("generated-imagefolder", train=24, test=20, image_size=SIZE)
RECIPE = Recipe(epochs=1, batch=8, lr=0.05, augmentation="inception")


def experiment(method: Any = "none", teacher: str = "", data: Data = FOLDER, **changes: Any) -> Experiment:
    """Write a suite of ResNet-8 on the generated folder, which must exist before `settings` is called."""
    student = changes.pop("student", "resnet8")
    recipe = RECIPE.model_copy(update=changes)
    taught = None
    if teacher:
        from benchmark.paper.suite import TeacherSpec

        taught = TeacherSpec(model=teacher, weights="torchvision:ResNet18_Weights.IMAGENET1K_V1")
    return Experiment(
        task="classification",
        data=data,
        student=student,
        method=MethodSpec.parse(method),
        recipe=recipe,
        teacher=taught,
        profile="smoke",
    )


def settings_in(folder: Path, **more: Any) -> Settings:
    """Return settings with a store in the folder."""
    lines: list[str] = more.pop("lines", [])
    store = Store(folder / "results", folder / "runs")
    return Settings(store=store, source=DataSource("folder"), say=lines.append, **more)


def data_of(asked: Experiment, settings: Settings) -> ClassificationData:
    """Return the experiment's images."""
    source = settings.source
    if asked.data.name == "generated":
        source = resolve("generated", None, allow_download=False, allow_generated=True)
    return load_data(
        asked.data,
        source,
        CPU,
        recipe=asked.recipe,
        ranks=settings.ranks,
        generated_dir=settings.store.runs,
        workers=0,
    )


def training(asked: Experiment, settings: Settings) -> Training:
    """Return the training of repetition 0."""
    return Training(Run(asked, 0), data_of(asked, settings), settings)
