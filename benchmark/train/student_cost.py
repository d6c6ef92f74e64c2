"""The cost of the student that was trained, as records say it."""

from __future__ import annotations

from functools import cache

from benchmark.errors import BenchmarkError
from benchmark.models.counting import macs, parameters
from benchmark.models.registry import model
from benchmark.paper.datasets import behind
from benchmark.plan.experiment import Experiment
from benchmark.records.facts import StudentCost

CONVENTION = "macs"  # of benchmark/models/counting.py


def student_cost(experiment: Experiment, classes: int | None) -> StudentCost | None:
    """Count the parameters and multiply-adds of an experiment's student; None for networks that need mmdet to be built.

    A detector has no multiply-adds here: they depend on the size of each image.
    """
    known = behind(experiment.data.name)
    shape = (known.counted or known.trained) if known is not None else (3, 224, 224)
    if experiment.data.image_size:
        shape = (3, experiment.data.image_size, experiment.data.image_size)
    return _counted(experiment.student, classes or (known.classes if known is not None else 100), tuple(shape))


@cache
def _counted(name: str, classes: int, shape: tuple[int, ...]) -> StudentCost | None:
    # As in training: a Swin is built for its image size.
    wishes = {"image_size": shape[1]} if shape and shape[1] == shape[2] else {}
    try:
        network = model(name).on_meta(classes, **wishes)
    except (ImportError, BenchmarkError, NotImplementedError):
        return None
    params = parameters(network)
    try:
        counted = macs(network, (1, *shape)) if shape else None
    except Exception:  # a network that refuses this image: its run is finished, and its record must be written
        counted = None
    if counted is None:
        return StudentCost(params=params)
    return StudentCost(params=params, macs=counted, convention=CONVENTION, image="x".join(map(str, shape)))
