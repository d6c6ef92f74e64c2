"""How long a plan may take: arithmetic over multiply-adds, rough until it is measured."""

from __future__ import annotations

from functools import cache

import torch

from benchmark.cost import macs
from benchmark.experiment import Experiment, Plan
from benchmark.models.registry import model
from benchmark.recipe import Recipe
from benchmark.tasks.dense import TASKS

# Sustained rates of small networks, well below what the devices can do; only to tell minutes from days.
MACS_PER_SECOND = {"cpu": 12e9, "cuda": 2e12}
SECONDS_PER_STEP = {"cpu": 0.0, "cuda": 0.012}  # launching kernels is what a small network waits for on a GPU
TRAINING_SIZE, TEST_SIZE = 50_000, 10_000
# Dense tasks, for every network and its teacher: multiply-adds of a ResNet-50 RetinaNet at 800 x 1280 and of a
# ResNet-18 DeepLabV3 at 512 x 1024 (a frame of Cityscapes is four such crops), and the sizes of the sets.
DENSE_MACS = {"detection": 240e9, "segmentation": 140e9}
DENSE_IMAGES = {"detection": (117_266, 5_000), "segmentation": (2_975, 4 * 500)}
DENSE_SHORT, DENSE_CROP, DENSE_RATE = 800, 512 * 1024, 2
SIDE_NETWORKS = 1.5  # a method's own share of the work, as a factor, where it has side networks


@cache
def _macs(name: str) -> int:
    with torch.device("meta"):
        network = model(name).build(100)
    return macs(network, (1, 3, 32, 32))


def seconds(experiment: Experiment, device: str) -> float:
    """Estimated seconds of one run: three passes' worth for the student, one for the teacher, and the evaluations."""
    recipe = experiment.recipe
    images = experiment.data.train or TRAINING_SIZE
    if recipe is None:
        return 0.0
    if experiment.task in TASKS:
        return _dense_seconds(experiment, recipe, device)
    a_step_image = 3 * _macs(experiment.student)
    if experiment.teacher is not None:
        a_step_image = int(SIDE_NETWORKS * (a_step_image + _macs(experiment.teacher_name)))
    tested = (experiment.data.test or TEST_SIZE) * _macs(experiment.student)
    rate = MACS_PER_SECOND[device] * (torch.get_num_threads() if device == "cpu" else 1)
    steps = recipe.epochs * images / recipe.batch
    return float(recipe.epochs * (images * a_step_image + tested) / rate + steps * SECONDS_PER_STEP[device])


def _dense_seconds(experiment: Experiment, recipe: Recipe, device: str) -> float:
    training, tested = DENSE_IMAGES[experiment.task]
    share = (max(recipe.short_sides or (DENSE_SHORT,)) / DENSE_SHORT) ** 2
    if recipe.crop:
        share = recipe.crop[0] * recipe.crop[1] / DENSE_CROP
    seen = (
        recipe.iterations * recipe.batch if recipe.iterations else recipe.epochs * (experiment.data.train or training)
    )
    passes = 3.0 if experiment.teacher is None else SIDE_NETWORKS * 4
    work = (seen * passes + recipe.epochs * (experiment.data.test or tested)) * DENSE_MACS[experiment.task] * share
    return work / (DENSE_RATE * MACS_PER_SECOND[device] * (torch.get_num_threads() if device == "cpu" else 1))


def plan_seconds(plan: Plan, device: str) -> float:
    """Estimated seconds of a whole plan, one run after the other."""
    return sum(seconds(run.experiment, device) for run in plan.runs)
