"""Image classification: data on the device or in a folder of images, loss and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data import cifar, find_folder, image_index
from benchmark.data.augment import MEAN, STD, EpochPlan, augmented, normalise, plan_epoch
from benchmark.data.batches import ClassificationData, EvaluationBatch
from benchmark.data.generated_folder import Request, generate
from benchmark.data.imagefolder import ImageFolderData
from benchmark.data.locate import DataSource, resolve
from benchmark.machine.ranks import ALONE, Ranks
from benchmark.machine.streams import seed_of
from benchmark.models.taps import Network
from benchmark.paper.datasets import GENERATED_FOLDER, IMAGE_FOLDERS, USER_FOLDER
from benchmark.paper.recipe import Recipe
from benchmark.plan.experiment import Data, Experiment
from benchmark.train import precision
from benchmark.train.engine.distiller import TaskLoss
from benchmark.train.engine.shards import shards_of
from methods.base import LOGITS, Batch

EVALUATION_BATCH = 500

FEW = 2000  # training images that are decoded sooner than worker processes are started

# The set that stands in for ImageNet in smoke runs; a change of it raises the version of `datasets.imagenet`.
STAND_IN = Request(classes=10, train=100, test=50, scale=0.25)


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
    def labels(self) -> Tensor:
        """Return the class of every training image, N, on the CPU."""
        return self.train.labels.cpu()

    @property
    def identity(self) -> Mapping[str, Any]:
        """Return the facts that identify the images."""
        return self.dataset.identity

    def __len__(self) -> int:
        return len(self.train.labels)

    def steps(self, size: int) -> int:
        """Return the number of batches in an epoch. A rest with less than one image for each shard is left out."""
        whole, rest = divmod(len(self), size)
        return whole + (rest >= self.shards)

    def epoch_plan(self, repetition: int, epoch: int) -> EpochPlan:
        """Return order, crops and flips of one epoch. They are the same for every experiment of a repetition."""
        order, augment = seed_of("data", repetition, epoch), seed_of("augment", repetition, epoch)
        return plan_epoch(len(self), order, augment).to(self.train.images.device)

    def batch(self, plan: EpochPlan, start: int, size: int) -> Batch:
        """Return this rank's part of a batch: augmented inputs B,3,32,32, channels last in memory."""
        found = min(size, len(plan) - start) // self.shards * self.shards // self.ranks.world
        begin = start + self.ranks.rank * found
        return self.augmented(plan[begin : begin + found])

    def augmented(self, part: EpochPlan) -> Batch:
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


def load_data(
    data: Data,
    source: DataSource | None,
    device: torch.device,
    *,
    recipe: Recipe | None = None,
    ranks: Ranks = ALONE,
    generated_dir: Path = Path("runs"),
    workers: int | None = None,
) -> ClassificationData:
    """Load the experiment's data from the files found for it, for batches on the device.

    Args:
        data: which images.
        source: where images were found; looked for in the usual places if None.
        device: where batches are wanted.
        recipe: how training images are prepared and batches cut; None where nothing is trained.
        ranks: the processes that share batches.
        generated_dir: gets the generated image folder.
        workers: processes that decode image files; None: this process's share of the cores.

    Raises:
        MissingInput: no files were found, or they are not the official ones.
        UsageError: the recipe's batch cannot be shared by so many processes.
    """
    shards = shards_of(recipe, ranks) if recipe is not None else ranks.world
    if data.name in IMAGE_FOLDERS:
        dataset = _folder(data, source, generated_dir)
        return ImageFolderData.for_recipe(
            dataset,
            recipe,
            device,
            size=data.image_size or 224,
            workers=0 if workers is None and len(dataset.train) < FEW else workers,
            rank=ranks.rank,
            world=ranks.world,
            shards=shards,
        )
    if source is None or source.kind != data.name:
        source = resolve(data.name, None, allow_download=False, allow_generated=False)
    cifar_data = cifar.load(source, data.train, data.test, data.subset_seed, data.holdout or 0)
    train, test = cifar_data.train.to(device), cifar_data.test.to(device)
    mean, std = torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)
    return DeviceData(cifar_data, train, test, mean, std, ranks, shards)


def _folder(data: Data, source: DataSource | None, generated_dir: Path) -> image_index.ImageFolder:
    if data.name == GENERATED_FOLDER:
        root = generate(generated_dir / GENERATED_FOLDER, STAND_IN)
    elif data.name == USER_FOLDER:
        assert source is not None and source.folder is not None, "who plans a run on a folder knows where it is"
        root = source.folder
    else:
        root = find_folder.find(data.name, source.data_dir if source is not None else None)
    return image_index.load(
        data.name,
        root,
        subset_train=data.train,
        subset_test=data.test,
        subset_seed=data.subset_seed,
        holdout=data.holdout or 0,
    )


def task_loss(experiment: Experiment) -> TaskLoss:
    """Return the task loss: cross-entropy, with label smoothing if the recipe asks for it."""
    smoothing = experiment.recipe.label_smoothing if experiment.recipe else 0.0

    def cross_entropy(outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        return F.cross_entropy(outputs[LOGITS], batch.targets, label_smoothing=smoothing)

    return cross_entropy


@torch.no_grad()
def evaluate(network: Network, data: ClassificationData, precision_name: str, ranks: Ranks = ALONE) -> dict[str, float]:
    """Return top-1 and top-5 accuracy in per cent and mean cross-entropy over the test images of all ranks.

    `precision_name` is the one that the caller records. No half precision is used: bf16 and fp16 evaluate as fp32.
    """
    training = network.training
    network.eval()
    sums = torch.zeros(4, dtype=torch.float64)
    with precision.arithmetic(precision_name):
        for batch in data.evaluation_batches():
            logits = network(batch.inputs)[LOGITS].float()
            guesses = logits.topk(min(5, logits.shape[1]), dim=1).indices
            hits = (guesses == batch.targets[:, None]) & batch.valid[:, None]
            losses = F.cross_entropy(logits, batch.targets, reduction="none") * batch.valid
            found = [hits[:, 0].sum().double(), hits.sum().double(), losses.sum().double(), batch.valid.sum().double()]
            sums = sums.to(logits.device) + torch.stack(found)
    network.train(training)
    top1, top5, loss, images = ranks.sum(sums).tolist()
    return {"top1": 100 * top1 / images, "top5": 100 * top5 / images, "loss": loss / images}
