"""Segmentation on Cityscapes through mmseg: data, metric, and a batch as methods see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.data import cityscapes, finder, generated_cityscapes
from benchmark.data.cityscapes import CityscapesFolder
from benchmark.models import openmmlab
from benchmark.models.taps import Network
from benchmark.paper.datasets.entry import DataSet
from benchmark.paper.recipe import Recipe
from benchmark.plan.experiment import Experiment
from benchmark.train.dense.dense_task import DenseData, data_set_of, subset
from methods.base import Batch, Outputs

if TYPE_CHECKING:
    from benchmark.train.dense.segmentor import CirkdSegmentor

SCALES = tuple((5 + tenths) / 10 for tenths in range(16))  # CIRKD, dataset/cityscapes.py: 0.5 to 2.0
CROP = (512, 1024)  # where a recipe says nothing: CIRKD
EVALUATE_STEPS = 800  # where a recipe says nothing: CIRKD, train_kd.py
EVALUATIONS = 10  # of a training that a profile shortens

_TRAIN_IDS = np.full(256, cityscapes.IGNORED, np.uint8)
_TRAIN_IDS[list(cityscapes.LABEL_IDS)] = range(len(cityscapes.LABEL_IDS))


class Segmentation:
    """The segmentation task: CIRKD's networks as models of mmseg, its Cityscapes data set, and its mIoU."""

    def data(self, experiment: Experiment, data_dir: Path | None, runs: Path) -> DenseData:
        """Return Cityscapes, a set in its layout, or the generated one."""
        wanted, note = data_set_of(experiment)
        if note:
            folder = CityscapesFolder(generated_cityscapes.generate(runs / "generated" / experiment.data.name))
        else:
            folder = cityscapes.require(wanted, data_dir, instead=finder.SMOKE)
        return _data(folder, wanted, experiment, note)

    def configuration(self, model: str) -> Mapping[str, Any]:
        """Return an empty configuration: CIRKD has no warm-up and the same decay for all parameters."""
        return {}

    def trainable(self, network: nn.Module, classes: int) -> nn.Module:
        """Return the mmseg model around a network of CIRKD's."""
        return segmentor(network, classes)

    def batch(self, inputs: Tensor, samples: Sequence[Any]) -> Batch:
        """Return the batch. Targets are labels B,H,W at the inputs' size, 255 where a pixel is ignored."""
        from benchmark.train.dense.segmentor import labels_of

        positions = torch.tensor([sample.metainfo.get("position", 0) for sample in samples])
        return Batch(inputs, labels_of(samples), positions)

    def needed(self, roles: Sequence[str]) -> tuple[str, ...]:
        """Return the method's own roles; none are added."""
        return tuple(roles)

    def teach(self, network: Network, inputs: Tensor, student: Outputs) -> dict[str, Tensor]:
        """Return the teacher's tensors by role, from one forward pass through both heads."""
        return network.observed(lambda: network.network(inputs))[1]

    def metrics(self, found: Mapping[str, float]) -> dict[str, float]:
        """Return mIoU over the classes that occur, and the share of pixels that are correct, in per cent."""
        return {"miou": float(found["mIoU"]), "pixel_accuracy": float(found["aAcc"])}

    def evaluate_every(self, experiment: Experiment, steps_an_epoch: int) -> int:
        """Return the recipe's evaluation interval in steps. A shortened training is evaluated a few times."""
        recipe = experiment.recipe
        assert recipe is not None
        habit = EVALUATE_STEPS if recipe.iterations else max(1, recipe.epochs * steps_an_epoch // EVALUATIONS)
        return recipe.evaluate_steps or habit


TASK = Segmentation()


def segmentor(network: str | nn.Module, classes: int, test_cfg: dict[str, Any] | None = None) -> CirkdSegmentor:
    """Build an mmseg model from a network of CIRKD's, given by name or as a module.

    `test_cfg` selects whole or sliding.
    """
    with openmmlab.scope("mmseg"):
        from benchmark.train.dense.segmentor import CirkdSegmentor

        return CirkdSegmentor(network, classes, test_cfg)


def dataset(folder: CityscapesFolder, split: str, augmentation: Sequence[Any] = (), labelled: bool = True) -> Any:
    """Return a split as mmseg's data set: whole images, augmented if asked for, with labels by class."""
    load = [{"type": "LoadAnnotations"}, to_train_ids] if labelled else []
    with openmmlab.scope("mmseg"):
        from mmseg.datasets import CityscapesDataset

        return CityscapesDataset(
            seg_map_suffix=cityscapes.LABELS,
            data_prefix={"img_path": str(folder.images(split)), "seg_map_path": str(folder.labels(split))},
            pipeline=[{"type": "LoadImageFromFile"}, *load, *augmentation, {"type": "PackSegInputs"}],
            test_mode=not augmentation,
        )


def to_train_ids(results: dict[str, Any]) -> dict[str, Any]:
    """Replace the archives' label numbers by class positions, and all others by 255. Used as a transform."""
    results["gt_seg_map"] = _TRAIN_IDS[results["gt_seg_map"]]
    return results


def augmentation(crop: tuple[int, int]) -> list[dict[str, Any]]:
    """Return CIRKD's augmentation: one of 16 scales, a random crop, a random mirror.

    Small images are padded to the crop.
    """
    scales = [[{"type": "Resize", "scale_factor": scale, "keep_ratio": True}] for scale in SCALES]
    return [
        {"type": "RandomChoice", "transforms": scales},
        {"type": "RandomCrop", "crop_size": crop, "cat_max_ratio": 1.0},
        {"type": "RandomFlip", "prob": 0.5},
    ]


def _data(folder: CityscapesFolder, wanted: DataSet, experiment: Experiment, note: str) -> DenseData:
    from mmengine.evaluator import Evaluator
    from mmseg.evaluation import IoUMetric

    data = experiment.data
    recipe: Recipe | None = experiment.recipe
    train = dataset(folder, "train", augmentation((recipe.crop if recipe else None) or CROP))
    test = dataset(folder, "val")
    if experiment.profile != "smoke":
        for split, found in (("train", train), ("val", test)):
            finder.check_whole(wanted, split, len(found))
    positions = subset(len(train), data.train, data.subset_seed, "train")
    tested = subset(len(test), data.test, data.subset_seed, "test")
    if data.test:
        test.get_subset_(tested)  # in place: copies of MMEngine's sets share one memo, and can hold parts of each other
    names = {split: folder.names(split) for split in ("train", "val")}
    used = {"train": [names["train"][p] for p in positions], "val": [names["val"][p] for p in tested]}
    metric = IoUMetric(iou_metrics=["mIoU"])
    metric.dataset_meta = test.metainfo
    return DenseData(
        train=train,
        test=test,
        evaluator=Evaluator([metric]),
        classes=len(train.metainfo["classes"]),
        identity={"name": data.name} | folder.identity(used),
        positions=positions,
        note=note,
    )
