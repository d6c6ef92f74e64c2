"""Batches whose order and augmentation are functions of (repetition, epoch, position): nothing to save for a resume."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from benchmark.machine.streams import generator, seed_of
from benchmark.train.dense.dense_task import DenseData
from benchmark.train.dense.generators import seeded_globals

EpochPosition = tuple[int, int]  # epoch, position

FEW = 1000  # images that are decoded sooner than worker processes are started
WORKERS = 4


class Augmented(Dataset[Any]):
    """A data set whose pipeline draws from its own seed for every epoch and position."""

    def __init__(self, dataset: Any, repetition: int) -> None:
        self.dataset = dataset
        self.metainfo = dataset.metainfo
        self.repetition = repetition

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: EpochPosition) -> Any:
        epoch, position = place
        with seeded_globals(seed_of("augment", self.repetition, epoch, position)):
            item = self.dataset[position]
        item["data_samples"].set_metainfo({"position": position})
        return item


class StepOrder(Sampler[list[EpochPosition]]):
    """The places of every step, epoch after epoch. A step has several groups; one device sees one group at once."""

    def __init__(
        self,
        positions: Sequence[int],
        repetition: int,
        batch: int,
        per_device: int,
        group: Callable[[Sequence[int], int], list[list[int]]] | None,
    ) -> None:
        self.positions, self.repetition = positions, repetition
        self.batch, self.per_device = batch, per_device
        self.group = group or _as_they_come
        self.epoch, self.start = 0, 0  # where the next pass over the loader begins

    def __len__(self) -> int:
        """Return the number of steps in an epoch."""
        return -(-len(self.positions) // self.batch)

    def __iter__(self) -> Iterator[list[EpochPosition]]:
        epoch, start = self.epoch, self.start
        shuffled = torch.randperm(len(self.positions), generator=generator("data", self.repetition, epoch))
        groups = self.group([self.positions[index] for index in shuffled.tolist()], self.per_device)
        a_step = self.batch // self.per_device
        for step in range(start, len(self)):
            self.epoch, self.start = epoch, step + 1  # a loader reads ahead: `seek` says where one really is
            yield [(epoch, position) for group in groups[step * a_step : (step + 1) * a_step] for position in group]

    def seek(self, step: int) -> None:
        """Begin the next pass at a step of the whole training."""
        self.epoch, self.start = divmod(step, len(self))


def _as_they_come(order: Sequence[int], size: int) -> list[list[int]]:
    return [list(order[start : start + size]) for start in range(0, len(order), size)]


def training_loader(data: DenseData, order: StepOrder, workers: int | None = None) -> DataLoader[Any]:
    """Return the loader of the train loop. Its batches are dictionaries of `inputs` and `data_samples`, as lists.

    `workers` processes decode the images; None: as many as suit the set. The batches are the same with any number.
    """
    from mmengine.dataset import pseudo_collate

    dataset, count = Augmented(data.train, order.repetition), _processes(len(data.positions), workers)
    return DataLoader(dataset, batch_sampler=order, num_workers=count, collate_fn=pseudo_collate)


def test_loader(data: DenseData, workers: int | None = None) -> DataLoader[Any]:
    """Return a loader of the test images one by one, in order; `workers` processes decode, None as many as suit it."""
    from mmengine.dataset import pseudo_collate

    count = _processes(len(data.test), workers)
    return DataLoader(data.test, batch_size=1, num_workers=count, collate_fn=pseudo_collate)


def _processes(images: int, asked: int | None) -> int:
    return asked if asked is not None else 0 if images < FEW else WORKERS


def pieces(batch: dict[str, Any], size: int) -> Iterator[dict[str, Any]]:
    """Yield a collated batch in parts of `size` images."""
    for start in range(0, len(batch["inputs"]), size):
        yield {key: values[start : start + size] for key, values in batch.items()}
