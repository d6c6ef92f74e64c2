"""Image classification on small data sets that live on the device: data, loss and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data import cifar
from benchmark.data.augment import MEAN, STD, EpochPlan, augmented, normalise, plan_epoch
from benchmark.data.locate import DataSource, resolve
from benchmark.engine.distiller import TaskLoss
from benchmark.engine.streams import seed_of
from benchmark.errors import UsageError
from benchmark.experiment import Data, Experiment
from benchmark.models.taps import Network
from benchmark.recipe import Recipe
from methods.base import LOGITS, Batch

MAIN_METRIC = "top1"
EVALUATION_BATCH = 500

# Settings of a recipe that this task does not honour on a device-resident data set.
_UNSUPPORTED = (
    *("ema", "dropout", "drop_path", "randaugment", "random_erasing", "color_jitter", "mixup", "cutmix"),
    *("iterations", "short_sides", "crop", "evaluate_steps"),
)


def check_recipe(recipe: Recipe) -> None:
    """Refuse a recipe that would be carried out only in part.

    Raises:
        UsageError: it asks for something that is not there.
    """
    asked = [name for name in _UNSUPPORTED if getattr(recipe, name)]
    if recipe.per_device_batch not in (None, recipe.batch):  # one device holds the whole batch
        asked.append("per_device_batch")
    if recipe.augmentation != "crop-flip":
        asked.append(f"augmentation {recipe.augmentation}")
    if asked:
        raise UsageError(
            f"{', '.join(asked)}: not available on a data set that lives on the device", "take recipe A1 or A1-small"
        )


@dataclass(frozen=True)
class DeviceData:
    """A data set on the device, as uint8, with what augments and normalises it there."""

    dataset: cifar.Dataset
    train: cifar.Split
    test: cifar.Split
    mean: Tensor
    std: Tensor

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.dataset.classes

    def __len__(self) -> int:
        return len(self.train.labels)

    def epoch_plan(self, repetition: int, epoch: int) -> EpochPlan:
        """Order, crops and flips of one epoch: the same for every experiment of a repetition."""
        order, augment = seed_of("data", repetition, epoch), seed_of("augment", repetition, epoch)
        return plan_epoch(len(self), order, augment).to(self.train.images.device)

    def batch(self, plan: EpochPlan, start: int, size: int) -> Batch:
        """Augmented inputs B,3,32,32, channels last in memory."""
        part = plan[start : start + size]
        inputs, targets = augmented(self.train, part, self.mean, self.std)
        return Batch(inputs.contiguous(memory_format=torch.channels_last), targets, part.order)

    def example(self) -> Tensor:
        """Two normalised training images, to see the shapes of a network's taps."""
        return normalise(self.train.images[:2], self.mean, self.std)


def load_data(data: Data, source: DataSource | None, device: torch.device) -> DeviceData:
    """The experiment's data, on the device, from the files found for it.

    Raises:
        MissingInput: no files were found, or they are not the official ones.
    """
    if source is None or source.kind != data.name:
        source = resolve(data.name, None, allow_download=False, allow_generated=False)
    dataset = cifar.load(source, data.train, data.test, data.subset_seed, data.holdout or 0)
    train, test = dataset.train.to(device), dataset.test.to(device)
    mean, std = torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)
    return DeviceData(dataset, train, test, mean, std)


def task_loss(experiment: Experiment) -> TaskLoss:
    """Cross-entropy, smoothed where the recipe says so."""
    smoothing = experiment.recipe.label_smoothing if experiment.recipe else 0.0

    def cross_entropy(outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        return F.cross_entropy(outputs[LOGITS], batch.targets, label_smoothing=smoothing)

    return cross_entropy


@torch.no_grad()
def evaluate(network: Network, data: DeviceData) -> dict[str, float]:
    """Top-1 and top-5 accuracy in per cent and mean cross-entropy over the test images."""
    training = network.training
    network.eval()
    images, labels = data.test.images, data.test.labels
    sums = torch.zeros(3, device=images.device, dtype=torch.float64)
    for start in range(0, len(labels), EVALUATION_BATCH):
        target = labels[start : start + EVALUATION_BATCH]
        inputs = normalise(images[start : start + EVALUATION_BATCH], data.mean, data.std)
        logits = network(inputs.contiguous(memory_format=torch.channels_last))[LOGITS].float()
        hits = logits.topk(5, dim=1).indices == target[:, None]
        loss = F.cross_entropy(logits, target, reduction="sum")
        sums += torch.stack([hits[:, 0].sum().double(), hits.sum().double(), loss.double()])
    network.train(training)
    top1, top5, loss = (sums / len(labels)).tolist()
    return {"top1": 100 * top1, "top5": 100 * top5, "loss": loss}
