"""The evaluation of given weights on a data set's test images, against the accuracy that their source publishes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from benchmark.data import finder, image_index
from benchmark.data.batches import ClassificationData
from benchmark.data.decode import IMAGENET_MEAN, IMAGENET_STD, Augmentation
from benchmark.data.imagefolder import ImageFolderData
from benchmark.data.locate import resolve
from benchmark.errors import UsageError
from benchmark.machine.streams import initialising
from benchmark.models.registry import model
from benchmark.models.taps import Network
from benchmark.paper.datasets import DATA_SETS, GENERATED, IMAGE_FOLDERS, layout_of
from benchmark.paper.rules import load_rules
from benchmark.paper.suite import TeacherSpec
from benchmark.plan.experiment import Data
from benchmark.records.store import Store
from benchmark.train.checkpoint import tensors_sha256
from benchmark.train.classification.classification_task import FEW, load_data
from benchmark.train.engine.teacher import load_weights
from benchmark.train.engine.testing import evaluate
from benchmark.train.precision import EVALUATED
from benchmark.train.weights import is_named, weights_file


@dataclass(frozen=True)
class Preparation:
    """The preparation of images for given weights, as their source does it."""

    size: int = 224
    resize: int = 256
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


@dataclass(frozen=True)
class EvaluationRequest:
    """A request for an evaluation. `published` overrides the known accuracy of the weights."""

    model: str
    data: str  # cifar100, generated, imagenet, imagenet100, or a folder
    weights: str
    sha256: str | None = None
    published: float | None = None
    data_dir: Path | None = None
    workers: int | None = None


def evaluated(asked: EvaluationRequest, store: Store, device: torch.device) -> dict[str, object]:
    """Evaluate weights. Return metrics, and the gap to the published accuracy if one is known, as plain JSON.

    Raises:
        MissingInput: images or weights are not there, or weights do not fit.
    """
    entry = model(asked.model)
    file = weights_file(asked.weights, store, asked.sha256)
    prepared = preparation(asked.weights)
    data = _data(asked, prepared, device)
    try:
        with initialising("teacher", 0):
            network = entry.build(data.classes, image_size=prepared.size)
        network.load_state_dict(load_weights(file, entry, network))
        tapped = Network(network.eval(), entry.adapter(network)).to(device)
        metrics = evaluate(tapped.to(memory_format=torch.channels_last), data, EVALUATED)
    finally:
        data.close()
    published = asked.published if asked.published is not None else _published(asked)
    found: dict[str, object] = {
        "model": asked.model,
        "weights": str(file.path),
        "file_sha256": file.sha256,
        "weights_sha256": tensors_sha256(network.state_dict()),
        "data": dict(data.identity),
        **{name: round(value, 4) for name, value in metrics.items()},
        "published": published,
    }
    if published is not None:
        tolerance = load_rules().teacher_gate.tolerance("top1", pinned=True)
        gap = metrics["top1"] - published
        # Half of the last digit that is printed: 66.41 may have been 66.414.
        found |= {"gap": round(gap, 4), "tolerance": tolerance, "passes": abs(gap) <= tolerance + 0.005}
    return found


def preparation(weights: str) -> Preparation:
    """Return the image preparation that the weights' library states; torchvision's first recipe if it states none."""
    library, _, name = weights.partition(":")
    if library == "torchvision":
        from torchvision import models

        made = models.get_weight(name).transforms()
        (size,), (resize,) = made.crop_size, made.resize_size
        interpolation = _interpolation(made.interpolation.value)
        return Preparation(size, resize, interpolation, tuple(made.mean), tuple(made.std))
    if library == "timm":
        import timm

        config = timm.get_pretrained_cfg(name)
        assert config is not None, "the file was found by it"
        size = config.input_size[-1]
        resize = int(size / config.crop_pct)
        return Preparation(size, resize, _interpolation(config.interpolation), tuple(config.mean), tuple(config.std))
    return Preparation()


def _interpolation(name: str) -> Literal["bilinear", "bicubic"]:
    if name not in ("bilinear", "bicubic"):
        raise UsageError(f"these weights expect images resized by {name!r}", "bilinear and bicubic are here")
    return "bicubic" if name == "bicubic" else "bilinear"


def _data(asked: EvaluationRequest, prepared: Preparation, device: torch.device) -> ClassificationData:
    if layout_of(asked.data) == "memory":
        source = resolve(asked.data, asked.data_dir, allow_download=True, allow_generated=False)
        return load_data(Data(asked.data), source, device)
    named = asked.data in IMAGE_FOLDERS
    root = finder.require(DATA_SETS[asked.data], asked.data_dir) if named else Path(asked.data)
    if not named and not root.is_dir():
        raise UsageError(
            f"no data set or folder {asked.data!r}",
            f"name one of {', '.join(('cifar100', GENERATED, *IMAGE_FOLDERS))}, or a folder",
        )
    dataset = image_index.load(asked.data if named else "folder", root)
    augmentation = Augmentation(
        size=prepared.size, evaluation_resize=prepared.resize, interpolation=prepared.interpolation
    )
    few = asked.workers is None and len(dataset.test) < FEW
    return ImageFolderData(
        dataset, augmentation, device, workers=0 if few else asked.workers, mean=prepared.mean, std=prepared.std
    )


def _published(asked: EvaluationRequest) -> float | None:
    """Return the accuracy that torchvision or a suite states for these weights, or None."""
    if asked.weights.startswith("torchvision:") and asked.data == "imagenet":
        from torchvision import models

        known = models.get_weight(asked.weights.partition(":")[2]).meta["_metrics"]
        return float(known["ImageNet-1K"]["acc@1"])
    return _in_suites(asked.weights, asked.data) if is_named(asked.weights) else None


def _in_suites(weights: str, data: str) -> float | None:
    from benchmark.paper.manifest import load_all

    for suite in load_all():
        for cell in suite.cells:
            teacher = cell.setting.teacher
            if isinstance(teacher, TeacherSpec) and teacher.weights == weights and cell.setting.data == data:
                return teacher.published
    return None
