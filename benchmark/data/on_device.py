"""Small data sets on the device: uint8 images, augmented and normalised in batches there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.data import cifar
from benchmark.data.augment import CropFlipPlan, augmented, normalise, plan_epoch
from benchmark.data.batches import EpochPlan, EvaluationBatch
from benchmark.machine.ranks import ALONE, Ranks
from benchmark.machine.streams import seed_of
from methods.base import Batch

EVALUATION_BATCH = 500


@dataclass(frozen=True)
class DeviceData:
    """A data set on the device as uint8, which augments and normalises it there, for one rank.

    `shards` is the number of parts that a batch is split into, over all ranks. A short batch is cut to a multiple of
    it.
    """

    dataset: cifar.Dataset
    train: cifar.Split
    test: cifar.Split
    mean: Tensor
    std: Tensor
    ranks: Ranks = ALONE
    shards: int = 1

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return self.dataset.classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes."""
        return self.dataset.class_names

    @property
    def labels(self) -> Tensor:
        """Return the class of every training image, N, on the CPU."""
        return self.train.labels.cpu()

    @property
    def identity(self) -> Mapping[str, object]:
        """Return the facts that identify the images."""
        return self.dataset.identity

    def __len__(self) -> int:
        return len(self.train.labels)

    def steps(self, size: int) -> int:
        """Return the number of batches in an epoch. A rest with less than one image for each shard is left out."""
        whole, rest = divmod(len(self), size)
        return whole + (rest >= self.shards)

    def epoch_plan(self, repetition: int, epoch: int) -> CropFlipPlan:
        """Return order, crops and flips of one epoch. They are the same for every experiment of a repetition."""
        order, augment = seed_of("data", repetition, epoch), seed_of("augment", repetition, epoch)
        return plan_epoch(len(self), order, augment).to(self.train.images.device)

    def batch(self, plan: EpochPlan, start: int, size: int) -> Batch:
        """Return this rank's part of a batch: augmented inputs B,3,32,32, channels last in memory."""
        assert isinstance(plan, CropFlipPlan), "a plan of another kind of data"
        found = min(size, len(plan) - start) // self.shards * self.shards // self.ranks.world
        begin = start + self.ranks.rank * found
        return self.augmented(plan[begin : begin + found])

    def augmented(self, part: CropFlipPlan) -> Batch:
        """Return the augmented batch of a part of a plan."""
        inputs, targets = augmented(self.train, part, self.mean, self.std)
        return Batch(inputs.contiguous(memory_format=torch.channels_last), targets, part.order)

    def evaluation_batches(self) -> Iterator[EvaluationBatch]:
        """Yield the test images in order, in batches that are distributed over the ranks."""
        images, labels = self.test.images, self.test.labels
        places = torch.arange(len(labels), device=labels.device)
        size = EVALUATION_BATCH
        for start in range(0, len(labels), size * self.ranks.world):
            begin = start + self.ranks.rank * size
            mine = places[begin : begin + size]
            if len(mine) == 0:  # ranks must have as many batches as each other
                mine, valid = places[:1], torch.zeros(1, dtype=torch.bool, device=labels.device)
            else:
                valid = torch.ones_like(mine, dtype=torch.bool)
            inputs = normalise(images[mine], self.mean, self.std).contiguous(memory_format=torch.channels_last)
            yield EvaluationBatch(inputs, labels[mine], mine, valid)

    def example(self) -> Tensor:
        """Return two normalised training images, from which the shapes of a network's taps are found."""
        return normalise(self.train.images[:2], self.mean, self.std)

    def close(self) -> None:
        """Do nothing: only memory is held."""
