"""Training and evaluation batches from a folder of images: decoded by worker processes, finished on the device.

A worker is asked for one whole batch: it gets the paths and the seeds, and returns one uint8 tensor. So workers know
nothing of data sets, epochs or ranks and live for the whole run. A resumed epoch starts at its step and does not decode
the steps before. On the device a batch is normalised, erased and mixed at once.

Several ranks together process in a step the batch that one rank alone would process: each takes its part of it.
"""

from __future__ import annotations

import multiprocessing
import os
import shlex
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmark.data.augment import normalise
from benchmark.data.batches import EpochPlan, EvaluationBatch
from benchmark.data.decode import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Augmentation,
    evaluation_image,
    read_image,
    training_image,
)
from benchmark.data.erasing import erased
from benchmark.data.image_index import ImageFolder
from benchmark.data.mixing import draw_mixing, mixed, mixed_targets
from benchmark.data.randaugment import Interpolation
from benchmark.errors import MissingInput, UsageError
from benchmark.machine.streams import generator, seed_of
from benchmark.paper.recipe import Recipe
from methods.base import Batch

EVALUATION_BATCH = 250
_AHEAD = 2  # batches that each worker keeps ready: torch's default
_ANSWER_S = 600.0  # a worker that says nothing for so long hangs, on a dead network file system for instance


@dataclass(frozen=True)
class FolderPlan(EpochPlan):
    """The order of an epoch's images (N), with the repetition and epoch that seed their augmentation."""

    repetition: int
    epoch: int


class ImageFolderData:
    """An image folder as batches on a device, for one rank: a `ClassificationData`.

    Args:
        dataset: the images.
        augmentation: how images are prepared; `Augmentation.of(recipe)`.
        device: where batches are wanted.
        workers: processes that decode; 0 decodes in this one; None takes this process's share of the cores.
        mixup: alpha of mixup's Beta, 0 for none; with it, or with CutMix, targets are probabilities B,classes.
        cutmix: alpha of CutMix's Beta, 0 for none.
        rank: this process's number among `world`.
        world: number of processes that train together.
        shards: number of parts that a batch is split into over all ranks, each mixed and erased by itself; None
            means one for each rank.
        mean: colour means that are subtracted; ImageNet's unless weights were trained with others.
        std: colour standard deviations that the images are divided by.
        drop_last: leave out an epoch's short last batch, as image_classification_sota at 6f7a70a does.
    """

    def __init__(
        self,
        dataset: ImageFolder,
        augmentation: Augmentation,
        device: torch.device,
        *,
        workers: int | None = None,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        rank: int = 0,
        world: int = 1,
        shards: int | None = None,
        drop_last: bool = False,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        if not 0 <= rank < world:
            raise UsageError(f"rank {rank} of {world}", f"ranks count from 0 to {world - 1}")
        self.dataset = dataset
        self.device = device
        self.labels = torch.from_numpy(dataset.train.labels)  # N, of the training images, on the CPU
        self._test_labels = torch.from_numpy(dataset.test.labels)
        self._augmentation = augmentation
        self._mixup, self._cutmix = mixup, cutmix
        self._rank, self._world = rank, world
        self._shards = world if shards is None else shards
        self._drop_last = drop_last
        self._mean, self._std = (torch.tensor(values, device=device) for values in (mean, std))
        workers = cores() if workers is None else workers
        self._workers = _Workers(augmentation, workers, pinned=device.type == "cuda")
        self._open: _OpenEpoch | None = None

    @classmethod
    def for_recipe(
        cls,
        dataset: ImageFolder,
        recipe: Recipe | None,
        device: torch.device,
        *,
        size: int = 224,
        workers: int | None = None,
        rank: int = 0,
        world: int = 1,
        shards: int | None = None,
        drop_last: bool = False,
        force_color_jitter: bool = False,
    ) -> ImageFolderData:
        """Build the data for a recipe, or for evaluation if `recipe` is None.

        Label smoothing is not done here: the loss smooths mixed targets too.
        """
        augmentation = Augmentation.for_evaluation(size)
        if recipe is not None:
            augmentation = Augmentation.of(recipe, force_color_jitter, size)
        return cls(
            dataset,
            augmentation,
            device,
            workers=workers,
            mixup=recipe.mixup if recipe is not None else 0.0,
            cutmix=recipe.cutmix if recipe is not None else 0.0,
            rank=rank,
            world=world,
            shards=shards,
            drop_last=drop_last,
        )

    @property
    def interpolation(self) -> Interpolation:
        """Return how images are resized."""
        return self._augmentation.interpolation

    def prepared(self, interpolation: Interpolation, crop: float) -> ImageFolderData:
        """Return the same images, prepared otherwise for tests: `crop` is the crop's share of the short side."""
        resize = int(self._augmentation.size / crop)
        augmentation = replace(self._augmentation, interpolation=interpolation, evaluation_resize=resize)
        workers, rank, world = self._workers.number, self._rank, self._world
        return ImageFolderData(self.dataset, augmentation, self.device, workers=workers, rank=rank, world=world)

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return len(self.dataset.classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names of the class folders."""
        return self.dataset.classes

    @property
    def identity(self) -> Mapping[str, object]:
        """Return the identity of the images for records."""
        return self.dataset.identity

    def __len__(self) -> int:
        return len(self.dataset.train)

    def steps(self, size: int) -> int:
        """Return the number of batches in an epoch, `size` being the images of a batch over all ranks.

        A last batch with fewer images than shards is left out.
        """
        whole, rest = divmod(len(self), size)
        return whole + (not self._drop_last and rest >= self._shards)

    def epoch_plan(self, repetition: int, epoch: int) -> FolderPlan:
        """Return the order of one epoch: the same for every experiment of a repetition, on every rank."""
        order = torch.randperm(len(self), generator=generator("data", repetition, epoch))
        return FolderPlan(order, repetition, epoch)

    def batches(self, plan: FolderPlan, size: int, start: int = 0) -> Iterator[Batch]:
        """Yield one epoch from batch `start` on: this rank's part of every `size` images.

        Inputs B,3,S,S float32, normalised, channels last in memory. A short last batch is split evenly, so up to
        `shards` - 1 images of it are left out; which ones differs from epoch to epoch.
        """
        if size < self._shards:
            raise UsageError(f"a batch of {size} for {self._shards} shards", "give each shard an image")
        for step, answer in enumerate(self._answers(plan, size, start), start):
            yield self._finished(plan, step, self._part(plan, step, size), answer)

    def decoded(self, plan: FolderPlan, size: int, start: int = 0) -> Iterator[Tensor]:
        """Yield the batches as workers return them, B,3,S,S uint8 on the CPU, to measure the speed of decoding."""
        return (answer.images for answer in self._answers(plan, size, start))

    def batch(self, plan: EpochPlan, start: int, size: int) -> Batch:
        """Return the batch that starts at image `start` of the plan, as `DeviceData.batch` does.

        Batches asked for in order, as training does, come from workers that run ahead; any other start restarts the
        workers.
        """
        assert isinstance(plan, FolderPlan), "a plan of another kind of data"
        step, beside = divmod(start, size)
        if beside:
            raise UsageError(f"no batch of {size} starts at image {start}", f"start at a multiple of {size}")
        if self._open is None or not self._open.continues(plan, step, size, self._workers.turn):
            self._open = _OpenEpoch(plan, size, step, self._workers.turn + 1, self.batches(plan, size, step))
        self._open.step += 1
        return next(self._open.batches)

    def evaluation_batches(self, size: int = EVALUATION_BATCH) -> Iterator[EvaluationBatch]:
        """Yield this rank's share of the test images. All ranks get batches of the same sizes; no image comes twice."""
        share = -(-len(self._test_labels) // self._world)
        places = torch.arange(self._rank * share, (self._rank + 1) * share)
        parts = [places[start : start + size] for start in range(0, share, size)]
        test = self.dataset.test
        requests = (_Request([test.path(p) if p < len(test) else "" for p in part.tolist()]) for part in parts)
        for part, answer in zip(parts, self._workers.answers(requests), strict=True):
            valid = part < len(test)
            indices = torch.where(valid, part, 0)
            targets = torch.where(valid, self._test_labels[indices], 0)
            moved = (tensor.to(self.device, non_blocking=True) for tensor in (targets, indices, valid))
            yield EvaluationBatch(self._normalised(answer.images), *moved)

    def example(self) -> Tensor:
        """Return two normalised training images, to find the shapes of a network's taps."""
        train = self.dataset.train
        answer = _answer_to(_Request([train.path(0), train.path(1)]), self._augmentation)
        return self._normalised(_good(answer).images)

    def close(self) -> None:
        """End the worker processes. They restart when a batch is asked for."""
        self._open = None
        self._workers.close()

    def _answers(self, plan: FolderPlan, size: int, start: int) -> Iterator[_Answer]:
        steps = range(start, self.steps(size))
        return self._workers.answers(self._request(plan, self._part(plan, step, size)) for step in steps)

    def _part(self, plan: FolderPlan, step: int, size: int) -> Tensor:
        batch = plan.order[step * size : (step + 1) * size]
        mine = len(batch) // self._shards * self._shards // self._world
        return batch[self._rank * mine : (self._rank + 1) * mine]

    def _request(self, plan: FolderPlan, part: Tensor) -> _Request:
        positions = part.tolist()
        paths = [self.dataset.train.path(position) for position in positions]
        return _Request(paths, _Seeds(plan.repetition, plan.epoch, positions))

    def _finished(self, plan: FolderPlan, step: int, part: Tensor, answer: _Answer) -> Batch:
        inputs = self._normalised(answer.images)
        targets = self.labels[part].to(self.device, non_blocking=True)
        boxes = answer.boxes.to(self.device, non_blocking=True)
        count = self._shards // self._world
        pieces = zip(inputs.chunk(count), targets.chunk(count), boxes.chunk(count), strict=True)
        first = self._rank * count
        finished = [self._finished_shard((plan, step, first + n), *piece) for n, piece in enumerate(pieces)]
        if count > 1:
            inputs, targets = (torch.cat(tensors) for tensors in zip(*finished, strict=True))
        else:
            inputs, targets = finished[0]
        return Batch(inputs, targets, part.to(self.device, non_blocking=True))

    def _finished_shard(
        self, place: tuple[FolderPlan, int, int], inputs: Tensor, targets: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return a shard's images and targets after erasing and mixing, with random choices of its own."""
        plan, step, shard = place
        choices = (plan.epoch, step, shard)
        if self._augmentation.random_erasing > 0:
            noise = generator("augment", plan.repetition, "noise", *choices, device=self.device)
            inputs = erased(inputs, boxes, noise)
        if self._mixup > 0 or self._cutmix > 0:
            seed = seed_of("augment", plan.repetition, "mixing", *choices)
            mixing = draw_mixing(seed, self._mixup, self._cutmix, *inputs.shape[2:])
            inputs, targets = mixed(inputs, mixing), mixed_targets(targets, self.classes, mixing)
        return inputs, targets

    def _normalised(self, images: Tensor) -> Tensor:
        return normalise(images.to(self.device, non_blocking=True), self._mean, self._std)


@dataclass
class _OpenEpoch:
    """The position of a pass over an epoch."""

    plan: FolderPlan
    size: int
    step: int  # the next one
    turn: int  # of the workers: another's ends this pass
    batches: Iterator[Batch]

    def continues(self, plan: FolderPlan, step: int, size: int, turn: int) -> bool:
        return plan is self.plan and (step, size, turn) == (self.step, self.size, self.turn)


class _Seeds(NamedTuple):
    repetition: int
    epoch: int
    positions: list[int]


class _Request(NamedTuple):
    """A request for one batch: its files ("" gives a black image) and the seeds; no seeds means centre crops."""

    paths: list[str]
    draws: _Seeds | None = None


class _Answer(NamedTuple):
    """The answer to a request: images B,3,S,S uint8, channels last in memory, and the boxes to erase, B,4."""

    images: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class _Failure:
    """An error in a worker, sent as data: an exception raised in a worker would arrive as another exception's text."""

    message: str
    fix: str


def _answer_to(request: _Request, augmentation: Augmentation) -> _Answer | _Failure:
    size = augmentation.size
    shape = (len(request.paths), 3, size, size)
    images = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
    boxes = torch.zeros((shape[0], 4), dtype=torch.int64)
    for place, path in enumerate(request.paths):
        if not path:
            images[place] = 0
            continue
        try:
            image = read_image(path)
        except (OSError, ValueError, SyntaxError) as error:  # Pillow raises any of these for a broken file
            quoted = shlex.quote(path)
            return _Failure(
                f"{path} cannot be read as an image: {error}", f"restore it from its archive: ls -l {quoted}"
            )
        if request.draws is None:
            images[place] = evaluation_image(image, augmentation)
        else:
            repetition, epoch, positions = request.draws
            pixels, box = training_image(image, augmentation, repetition, epoch, positions[place])
            images[place] = pixels
            boxes[place] = torch.tensor(box)
    return _Answer(images, boxes)


def _good(answer: _Answer | _Failure) -> _Answer:
    if isinstance(answer, _Failure):
        raise MissingInput(answer.message, answer.fix)
    return answer


class _Decoder(Dataset["_Answer | _Failure"]):
    """The data set that a worker process holds: the recipe's augmentation, and none of the data."""

    def __init__(self, augmentation: Augmentation) -> None:
        self._augmentation = augmentation

    @property
    def randaugments(self) -> bool:
        """Return True if RandAugment, and so timm, is needed."""
        return self._augmentation.randaugment is not None

    def __getitem__(self, request: _Request) -> _Answer | _Failure:
        return _answer_to(request, self._augmentation)


class _Requests:
    """The loader's sampler: it yields the pending requests, which are replaced for each pass."""

    def __init__(self) -> None:
        self.pending: Iterable[_Request] = ()

    def __iter__(self) -> Iterator[_Request]:
        return iter(self.pending)


class _Workers:
    """A pool of decoding processes that serves one pass at a time."""

    def __init__(self, augmentation: Augmentation, number: int, pinned: bool) -> None:
        self._decoder = _Decoder(augmentation)
        self.number = number
        self._pinned = pinned
        self._requests = _Requests()
        self._loader: DataLoader[_Answer | _Failure] | None = None
        self.turn = 0  # counts passes

    def answers(self, requests: Iterable[_Request]) -> Iterator[_Answer]:
        """Yield the answer to each request, in order. A new pass ends the one before.

        Raises:
            MissingInput: a file cannot be read.
        """
        self.turn += 1
        turn = self.turn
        self._requests.pending = requests
        if self._loader is None:
            self._loader = self._started()
        for answer in self._loader:
            yield _good(answer)
            if turn != self.turn:
                raise RuntimeError("another pass over the images has begun; this one cannot continue")

    def _started(self) -> DataLoader[_Answer | _Failure]:
        several = self.number > 0
        # Not forked from this process, whose threads and CUDA context do not survive a fork, but from a clean one that
        # has imported what workers need.
        context = multiprocessing.get_context("forkserver") if several else None
        if context is not None:
            timm = ["timm.data.auto_augment"] if self._decoder.randaugments else []
            context.set_forkserver_preload([__name__, *timm])
        return DataLoader(
            self._decoder,
            num_workers=self.number,
            prefetch_factor=_AHEAD if several else None,
            persistent_workers=several,
            timeout=_ANSWER_S if several else 0,
            multiprocessing_context=context,
            worker_init_fn=_leave_interrupts_to_the_parent,
            batch_size=None,
            sampler=self._requests,
            collate_fn=_as_it_is,
            pin_memory=self._pinned,
            generator=torch.Generator(),  # else the loader draws a seed for workers from the global one
        )

    def close(self) -> None:
        self.turn += 1
        self._loader = None  # its iterator ends the processes when it goes


_T = TypeVar("_T")


def _as_it_is(answer: _T) -> _T:
    return answer


def _leave_interrupts_to_the_parent(worker: int) -> None:
    # Ctrl-C reaches every process of the terminal; the parent has a checkpoint to write first, then ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def cores() -> int:
    """Return this process's share of the usable cores; a launcher may have started several processes on the machine."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
