"""The interface of a dense task to the MMEngine harness; detection and segmentation each implement it in a module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from benchmark.paper.datasets import behind
from benchmark.paper.datasets.entry import DataSet
from benchmark.plan.experiment import Experiment

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmark.models.taps import Network
    from methods.base import Batch, Outputs


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
    identity: Mapping[str, object]
    positions: Sequence[int]  # of `train`, a subset where the experiment has one
    group: Callable[[Sequence[int], int], list[list[int]]] | None = None
    note: str = ""  # one line that every output must carry; empty where the data are what was asked for


class DenseTask(Protocol):
    """A task of the harness. The module `benchmark.train.dense.<name>` provides it as TASK."""

    def data(self, experiment: Experiment, data_dir: Path | None, runs: Path) -> DenseData:
        """Return the experiment's data. Generated sets are written below `runs`.

        Raises `MissingInput` if data are absent.
        """

    def configuration(self, model: str) -> Mapping[str, Any]:
        """Return the student's own `optim_wrapper` and `param_scheduler`.

        Their warm-up and per-parameter rules are kept.
        """

    def trainable(self, network: nn.Module, classes: int) -> nn.Module:
        """Return the model that the Runner trains, with its data preprocessor, for a network of the registry."""

    def batch(self, inputs: Tensor, samples: Sequence[Any]) -> Batch:
        """Return the batch that methods see, from inputs B,3,H,W and data samples, whose metainfo has `position`."""

    def needed(self, roles: Sequence[str]) -> tuple[str, ...]:
        """Return the roles that a student must expose so that `teach` can compute the teacher's."""

    def teach(self, network: Network, inputs: Tensor, student: Outputs) -> dict[str, Tensor]:
        """Return the teacher's tensors by role for the same inputs. Called once a batch, without gradient."""

    def metrics(self, found: Mapping[str, float]) -> dict[str, float]:
        """Return the evaluator's metrics under the names that manifests use, in per cent."""

    def evaluate_every(self, experiment: Experiment, steps_an_epoch: int) -> int:
        """Return the number of optimiser steps between two evaluations. Each evaluation gives one row of the curves."""


def task(name: str) -> DenseTask:
    """Return the task with the name that manifests use."""
    found: DenseTask = import_module(f"benchmark.train.dense.{name}").TASK
    return found


def data_set_of(experiment: Experiment) -> tuple[DataSet, str]:
    """Return the data set of an experiment and, where generated images stand in for it, the note on them."""
    found = behind(experiment.data.name)
    assert found is not None, "only a data set of `paper/datasets` is planned for a dense task"
    return found, found.stand_in_note if experiment.data.name == found.stand_in.name else ""


def subset(images: int, wanted: int | None, seed: int, split: str) -> list[int]:
    """Return the positions of the first images of a seeded shuffle, sorted; all positions if `wanted` is None."""
    import torch

    from benchmark.machine.streams import generator

    if wanted is None or wanted >= images:
        return list(range(images))
    order = torch.randperm(images, generator=generator("subset", seed, split))
    return sorted(order[:wanted].tolist())
