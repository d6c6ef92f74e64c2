"""What the engine asks of a classification data set, wherever its images live and whoever decodes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from methods.base import Batch


@dataclass(frozen=True)
class EvaluationBatch:
    """Normalised images B,3,S,S, classes B and positions B; `valid` B is False where a place only fills up the batch.

    What fills up is black, of class 0 and position 0: it must be masked out of every sum.
    """

    inputs: Tensor
    targets: Tensor
    indices: Tensor
    valid: Tensor


class ClassificationData(Protocol):
    """Batches of one data set on one device, for one rank.

    Every rank sees the same plan and takes its own part of each batch; all parts together are one batch.
    """

    @property
    def classes(self) -> int:
        """Number of classes."""

    @property
    def labels(self) -> Tensor:
        """Class of every training image, N, on the CPU; positions are those of `Batch.indices`."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What the images really are: plain JSON, for the record."""

    def __len__(self) -> int:
        """Training images."""

    def steps(self, size: int) -> int:
        """Batches in an epoch, of `size` images over all ranks."""

    def epoch_plan(self, repetition: int, epoch: int) -> Sized:
        """Everything that is random in an epoch's data: the same for every experiment of a repetition."""

    def batch(self, plan: Any, start: int, size: int) -> Batch:
        """The rank's part of the batch of `size` images that starts at an image of the plan."""

    def evaluation_batches(self) -> Iterator[EvaluationBatch]:
        """The rank's share of the test images; no image comes twice, and every rank has as many batches."""

    def example(self) -> Tensor:
        """Two normalised images 2,3,S,S, to see the shapes of a network's taps."""

    def close(self) -> None:
        """Let go of what a data set holds besides memory."""
