"""The estimated duration of a plan: from rates that `bench` measured here, or roughly from multiply-adds."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from benchmark.machine import provenance
from benchmark.models.counting import macs
from benchmark.models.registry import model
from benchmark.paper.datasets import DATA_SETS, behind, layout_of
from benchmark.paper.recipe import Recipe
from benchmark.paper.tasks import TASKS
from benchmark.plan.experiment import Experiment, Plan

# Sustained rates of small networks, far below the peak of the devices; good enough to distinguish minutes from days.
# A CPU's rate is for one thread: ResNet-20 and its methods reached 30e9 on AVX-512 (docs/performance.md), and older
# machines reach less.
MACS_PER_SECOND = {"cpu": 20e9, "cuda": 2e12}
# Factor on that rate for images of 128 pixels and more; on a GPU it makes 800 images a second of a ResNet-50.
LARGE = {"cpu": 1, "cuda": 5}
SECONDS_PER_STEP = {"cpu": 0.0, "cuda": 0.012}  # added to each step: small networks on a GPU wait for kernel launches
SHORT_SIDE, CROP = 800, 512 * 1024  # pixels of the images that the rough multiply-adds of tasks are for
SIDE_NETWORKS = 1.5  # factor on the work of a step with a teacher, for the method's side networks


@cache
def _macs(name: str, size: int) -> int:
    return macs(model(name).on_meta(100, image_size=size), (1, 3, size, size))


def hardware_of(device: str, threads: int) -> str:
    """Return the name of the hardware. Measured rates hold only for the same name."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{provenance.hardware()['cpu']}, {threads} threads"


def key_of(experiment: Experiment) -> str:
    """Return the key of measured rates: pair, method and batch. Experiments with one key have one speed."""
    batch = experiment.recipe.batch if experiment.recipe is not None else 0
    return f"{experiment.pair}/{experiment.method.name}/{batch}"


@dataclass(frozen=True)
class Measured:
    """The images per second that `bench --speed` measured, as `runs/speed.json` stores them."""

    hardware: str
    rates: dict[str, float]  # by the key of an experiment, see `key_of`

    @classmethod
    def read(cls, runs: Path) -> Measured | None:
        """Return the stored rates, or None if there is no readable file."""
        try:
            content = json.loads((runs / "speed.json").read_text())
            return cls(str(content["hardware"]), {str(k): float(v) for k, v in content["rates"].items() if v > 0})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    @classmethod
    def here(cls, runs: Path, device: str, threads: int | None = None) -> Measured | None:
        """Return the stored rates if they were measured on this hardware, otherwise None."""
        found = cls.read(runs)
        here = hardware_of(device, threads or torch.get_num_threads())
        return found if found is not None and found.hardware == here else None

    def rate(self, experiment: Experiment) -> float | None:
        """Return the images per second of this pair, method and batch, or None."""
        return self.rates.get(key_of(experiment))

    def scale(self, experiments: list[Experiment], device: str) -> float:
        """Return the median ratio of measured to computed seconds over the measured experiments; 1 if there is none."""
        ratios = []
        for experiment in experiments:
            rate = self.rate(experiment)
            if rate is not None and experiment.recipe is not None:
                images = _extent(experiment)[0]
                ratios.append(experiment.recipe.epochs * images / rate / _training_seconds(experiment, device))
        return statistics.median(ratios) if ratios else 1.0


def seconds(experiment: Experiment, device: str, measured: Measured | None = None, scale: float = 1.0) -> float:
    """Estimate the seconds of one run with its evaluations. `scale` multiplies the seconds that were not measured."""
    recipe = experiment.recipe
    if recipe is None:
        return 0.0
    if TASKS[experiment.task].macs:
        return scale * _rough_seconds(experiment, recipe, device)
    images, tests, size = _extent(experiment)
    testing = recipe.epochs * tests * _macs(experiment.student, size) / _rate(device, size)
    rate = measured.rate(experiment) if measured is not None else None
    if rate is not None:
        return recipe.epochs * images / rate + scale * testing
    return scale * (_training_seconds(experiment, device) + testing)


def _extent(experiment: Experiment) -> tuple[int, int, int]:
    """Return training images, test images, and the side of an image in pixels."""
    data = experiment.data
    known = DATA_SETS.get(data.name, DATA_SETS["cifar100"])  # a stand-in's profile names its sizes
    side = (data.image_size or 224) if layout_of(data.name) == "image folder" else 32
    return data.train or known.training, data.test or known.test, side


def _training_seconds(experiment: Experiment, device: str) -> float:
    """Estimate the seconds of training. Forward and backward of the student count as three forward passes."""
    recipe = experiment.recipe
    assert recipe is not None
    images, _, size = _extent(experiment)
    an_image = float(3 * _macs(experiment.student, size))
    if experiment.teacher is not None:
        an_image = SIDE_NETWORKS * (an_image + _macs(experiment.teacher_name, size))
    done = recipe.epochs * images
    return done * an_image / _rate(device, size) + done / recipe.batch * SECONDS_PER_STEP[device]


def _rough_seconds(experiment: Experiment, recipe: Recipe, device: str) -> float:
    """Estimate the seconds of a run from its task's multiply-adds, the same for every network and its teacher."""
    task, known = TASKS[experiment.task], behind(experiment.data.name)
    assert known is not None, "the sizes of a folder of the user's own are not known here"
    tested = known.test * task.test_crops
    share = (max(recipe.short_sides or (SHORT_SIDE,)) / SHORT_SIDE) ** 2
    if recipe.crop:
        share = recipe.crop[0] * recipe.crop[1] / CROP
    seen = (
        recipe.iterations * recipe.batch
        if recipe.iterations
        else recipe.epochs * (experiment.data.train or known.training)
    )
    passes = 3.0 if experiment.teacher is None else SIDE_NETWORKS * 4
    work = (seen * passes + recipe.epochs * (experiment.data.test or tested)) * task.macs * share
    return work / _rate(device, SHORT_SIDE)


def _rate(device: str, side: int) -> float:
    large = LARGE[device] if side >= 128 else 1
    return large * MACS_PER_SECOND[device] * (torch.get_num_threads() if device == "cpu" else 1)


def plan_seconds(plan: Plan, device: str, measured: Measured | None = None) -> float:
    """Estimate the seconds of a whole plan, one run after the other."""
    scale = measured.scale([run.experiment for run in plan.runs], device) if measured is not None else 1.0
    return sum(seconds(run.experiment, device, measured, scale) for run in plan.runs)
