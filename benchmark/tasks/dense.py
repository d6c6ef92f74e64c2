"""What the harness of MMEngine asks of a task: detection and segmentation answer it each in a module of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from benchmark.experiment import Experiment

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmark.models.taps import Network
    from methods.base import Batch, Outputs

TASKS = ("detection", "segmentation")
MAIN_METRICS = {"detection": "ap", "segmentation": "miou"}


@dataclass(frozen=True)
class DenseData:
    """One experiment's data: MMEngine data sets with their pipelines, and the metric of the benchmark.

    `group` cuts an order of training positions into what one device sees in a step, for instance images of similar
    shape together; None takes them as they come. `identity` is plain JSON for the record.
    """

    train: Any  # mmengine.dataset.BaseDataset, lists allowed as positions
    test: Any
    evaluator: Any  # mmengine.evaluator.Evaluator
    classes: int
    identity: Mapping[str, Any]
    positions: Sequence[int]  # of `train`, a subset where the experiment has one
    group: Callable[[Sequence[int], int], list[list[int]]] | None = None
    note: str = ""  # one line that every output must carry; empty where the data are what was asked for


class DenseTask(Protocol):
    """One task of the harness. A module `benchmark.tasks.<name>` gives it as TASK."""

    main_metric: str

    def data(self, experiment: Experiment, data_dir: Path | None, runs: Path) -> DenseData:
        """The experiment's data; generated sets are written below `runs`. Raises `MissingInput` without them."""

    def configuration(self, model: str) -> Mapping[str, Any]:
        """The student's own `optim_wrapper` and `param_scheduler`, whose warm-up and per-parameter rules are kept."""

    def trainable(self, network: nn.Module, classes: int) -> nn.Module:
        """What the Runner trains of a model of the registry: one of mm's, with its data preprocessor."""

    def batch(self, inputs: Tensor, samples: Sequence[Any]) -> Batch:
        """What methods see of normalised inputs B,3,H,W and their data samples, whose metainfo has `position`."""

    def needed(self, roles: Sequence[str]) -> tuple[str, ...]:
        """The roles a student must show so that `teach` can give a teacher's."""

    def teach(self, network: Network, inputs: Tensor, student: Outputs) -> dict[str, Tensor]:
        """The teacher's tensors by role for the same inputs; called once a batch, without gradient."""

    def metrics(self, found: Mapping[str, float]) -> dict[str, float]:
        """The evaluator's answer under the names that manifests use, in per cent."""

    def evaluate_every(self, experiment: Experiment, steps_an_epoch: int) -> int:
        """Optimiser steps between two evaluations; each gives one row of the curves."""


def task(name: str) -> DenseTask:
    """The task by the name that manifests use."""
    found: DenseTask = import_module(f"benchmark.tasks.{name}").TASK
    return found


def subset(images: int, wanted: int | None, seed: int, split: str) -> list[int]:
    """Positions of the first images of a seeded shuffle, in order; all of them where none are asked for."""
    import torch

    from benchmark.engine.streams import generator

    if wanted is None or wanted >= images:
        return list(range(images))
    order = torch.randperm(images, generator=generator("subset", seed, split))
    return sorted(order[:wanted].tolist())
