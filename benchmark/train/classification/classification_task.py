"""Image classification: data on the device or in a folder of images, loss and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data import cifar, finder, image_index
from benchmark.data.augment import CIFAR_MEAN, CIFAR_STD
from benchmark.data.batches import ClassificationData
from benchmark.data.generated_folder import Request, generate
from benchmark.data.imagefolder import ImageFolderData
from benchmark.data.locate import DataSource, resolve
from benchmark.data.on_device import DeviceData
from benchmark.machine.ranks import ALONE, Ranks
from benchmark.paper.datasets import DATA_SETS, GENERATED_FOLDER, USER_FOLDER, layout_of
from benchmark.paper.recipe import Recipe
from benchmark.plan.experiment import Data, Experiment
from benchmark.train.engine.distiller import TaskLoss
from benchmark.train.engine.shards import shards_of
from methods.base import LOGITS, Batch

FEW = 2000  # training images that are decoded sooner than worker processes are started

# The set that stands in for ImageNet in smoke runs; a change of it raises the version of `datasets.imagenet`.
STAND_IN = Request(classes=10, train=100, test=50, scale=0.25)


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
    if layout_of(data.name) == "image folder":
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
    mean, std = torch.tensor(CIFAR_MEAN, device=device), torch.tensor(CIFAR_STD, device=device)
    return DeviceData(cifar_data, train, test, mean, std, ranks, shards)


def _folder(data: Data, source: DataSource | None, generated_dir: Path) -> image_index.ImageFolder:
    if data.name == GENERATED_FOLDER:
        root = generate(generated_dir / GENERATED_FOLDER, STAND_IN)
    elif data.name == USER_FOLDER:
        assert source is not None and source.folder is not None, "who plans a run on a folder knows where it is"
        root = source.folder
    else:
        root = finder.require(DATA_SETS[data.name], source.data_dir if source is not None else None)
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
