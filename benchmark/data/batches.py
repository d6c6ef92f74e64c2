"""The interface of a classification data set to the engine, independent of where images are stored or decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from methods.base import Batch


@dataclass(frozen=True)
class EvaluationBatch:
    """A batch of normalised images B,3,S,S, classes B and positions B. `valid` B is False for filling images.

    Filling images are black, of class 0 and position 0. They must be masked out of every sum.
    """

    inputs: Tensor
    targets: Tensor
    indices: Tensor
    valid: Tensor


@dataclass(frozen=True)
class EpochPlan:
    """Everything random in an epoch's data: the order of its images, positions N, and what each kind of data adds."""

    order: Tensor

    def __len__(self) -> int:
        return len(self.order)


class ClassificationData(Protocol):
    """Batches of one data set on one device, for one rank.

    Every rank sees the same plan and takes its own part of each batch; all parts together are one batch.
    """

    @property
    def classes(self) -> int:
        """Return the number of classes."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes, in the order of their labels; none if they have none."""

    @property
    def labels(self) -> Tensor:
        """Return the class of every training image, N, on the CPU. Positions are those of `Batch.indices`."""

    @property
    def identity(self) -> Mapping[str, object]:
        """Return the facts that identify the images, as plain JSON for the record."""

    def __len__(self) -> int:
        """Return the number of training images."""

    def steps(self, size: int) -> int:
        """Return the number of batches of `size` images (over all ranks) in an epoch."""

    def epoch_plan(self, repetition: int, epoch: int) -> EpochPlan:
        """Return everything random in an epoch's data. It is the same for every experiment of a repetition."""

    def batch(self, plan: EpochPlan, start: int, size: int) -> Batch:
        """Return this rank's part of a batch: `size` images over all ranks, from `start` of a plan made here."""

    def evaluation_batches(self) -> Iterator[EvaluationBatch]:
        """Yield this rank's share of the test images. No image comes twice, and every rank has equally many batches."""

    def example(self) -> Tensor:
        """Return two normalised images 2,3,S,S, from which the shapes of a network's taps are found."""

    def close(self) -> None:
        """Release what a data set holds besides memory."""
