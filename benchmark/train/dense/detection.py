"""Object detection on COCO through mmdet: data, metric, and a batch as methods see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.data import coco, finder, generated_coco
from benchmark.data.coco import CocoFolder
from benchmark.models import mmdet, openmmlab
from benchmark.models.taps import Network
from benchmark.paper.datasets.entry import DataSet
from benchmark.plan.experiment import Experiment
from benchmark.train.dense.dense_task import DenseData, data_set_of, subset
from methods.base import Annotation, Batch, ImageSize, Outputs

# What CocoMetric adds to `coco/bbox_mAP`, and what manifests call it.
_METRICS = {"": "ap", "_50": "ap50", "_75": "ap75", "_s": "ap_small", "_m": "ap_medium", "_l": "ap_large"}
_LONG_TO_SHORT = 1333 / 800  # mmdet's scale: the longest side a short one of 800 may have
_SHORT = 800


class Detection:
    """The detection task: mmdet's detectors, its COCO data set and pipelines, and its metric by pycocotools."""

    def data(self, experiment: Experiment, data_dir: Path | None, runs: Path) -> DenseData:
        """Return COCO, a set in its layout, or the generated one."""
        from mmdet.datasets import CocoDataset

        wanted, note = data_set_of(experiment)
        if note:
            names = tuple(CocoDataset.METAINFO["classes"])
            root = generated_coco.generate(runs / "generated" / experiment.data.name, names)
        else:
            root = finder.require(wanted, data_dir, instead=finder.SMOKE)
        with openmmlab.quiet():
            return _data(CocoFolder(root), wanted, experiment, note)

    def configuration(self, model: str) -> Mapping[str, Any]:
        """Return the network's own configuration in mmdet."""
        found: Mapping[str, Any] = mmdet.configuration(model)
        return found

    def trainable(self, network: nn.Module, classes: int) -> nn.Module:
        """Return the detector itself, which the Runner can train."""
        return network

    def batch(self, inputs: Tensor, samples: Sequence[Any]) -> Batch:
        """Return the batch with boxes as the network sees them: resized and flipped."""
        annotations = tuple(
            Annotation(_plain(sample.gt_instances.bboxes), sample.gt_instances.labels) for sample in samples
        )
        padded = (inputs.shape[2], inputs.shape[3])
        sizes = tuple(ImageSize((sample.img_shape[0], sample.img_shape[1]), padded) for sample in samples)
        positions = torch.tensor([sample.metainfo.get("position", 0) for sample in samples])
        return Batch(inputs, positions, positions, annotations, sizes)

    def needed(self, roles: Sequence[str]) -> tuple[str, ...]:
        """Return the roles, with the proposals added if a second stage is compared."""
        return mmdet.needed(roles)

    def teach(self, network: Network, inputs: Tensor, student: Outputs) -> dict[str, Tensor]:
        """Return the teacher's tensors by role. The detector runs only as far as the roles need."""
        return mmdet.teach(network, inputs, student)

    def metrics(self, found: Mapping[str, float]) -> dict[str, float]:
        """Return AP and its five companions, in per cent. An area without objects is left out; no detections give 0."""
        named = {ours: found.get(f"coco/bbox_mAP{theirs}", 0.0) for theirs, ours in _METRICS.items()}
        return {name: 100 * value for name, value in named.items() if value >= 0}

    def evaluate_every(self, experiment: Experiment, steps_an_epoch: int) -> int:
        """Return the steps of one epoch: evaluate after each, as mmdet's schedules do."""
        return steps_an_epoch


TASK = Detection()


def _plain(boxes: Any) -> Tensor:
    found: Tensor = getattr(boxes, "tensor", boxes)  # mmdet's box structures wrap a tensor
    return found


def _data(folder: CocoFolder, wanted: DataSet, experiment: Experiment, note: str) -> DenseData:
    from mmengine.config import Config
    from mmengine.evaluator import Evaluator

    settings = Config.fromfile(openmmlab.configs("mmdet") / "_base_" / "datasets" / "coco_detection.py")
    shorts = experiment.recipe.short_sides if experiment.recipe else ()
    train = _dataset(settings.train_dataloader.dataset, folder, "train2017", shorts)
    test = _dataset(settings.val_dataloader.dataset, folder, "val2017", shorts[-1:])
    if experiment.profile != "smoke":
        from pycocotools.coco import COCO

        for split in coco.SPLITS:
            finder.check_whole(wanted, split, len(COCO(str(folder.annotations(split))).imgs))
    data = experiment.data
    tested = subset(len(test), data.test, data.subset_seed, "test")
    images = [test.get_data_info(position)["img_id"] for position in tested]
    if data.test:
        test.get_subset_(tested)  # in place: copies of MMEngine's sets share one memo, and can hold parts of each other
    positions = subset(len(train), data.train, data.subset_seed, "train")
    evaluator = Evaluator([_metric(folder, images, test.metainfo)])
    return DenseData(
        train=train,
        test=test,
        evaluator=evaluator,
        classes=len(train.metainfo["classes"]),
        identity={"name": data.name} | folder.identity({"train2017": len(positions), "val2017": len(images)}),
        positions=positions,
        group=lambda order, size: _by_shape(train, order, size),
        note=note,
    )


def _dataset(settings: Any, folder: CocoFolder, split: str, shorts: Sequence[int]) -> Any:
    from mmdet.registry import DATASETS

    scales = [(round(short * _LONG_TO_SHORT), short) for short in shorts or (_SHORT,)]
    resize = {"type": "RandomChoiceResize", "scales": scales, "keep_ratio": True}
    if len(scales) == 1:
        resize = {"type": "Resize", "scale": scales[0], "keep_ratio": True}
    settings.pipeline = [resize if step["type"] == "Resize" else step for step in settings.pipeline]
    files = {"ann_file": str(folder.annotations(split)), "data_prefix": {"img": str(folder.images(split))}}
    settings.update(data_root="", **files)
    return DATASETS.build(settings)


def _metric(folder: CocoFolder, images: list[int], metainfo: Any) -> Any:
    from mmdet.evaluation import CocoMetric

    metric = CocoMetric(ann_file=str(folder.annotations("val2017")), metric="bbox")
    metric.dataset_meta = metainfo
    metric.cat_ids = metric._coco_api.get_cat_ids(cat_names=metainfo["classes"])
    metric.img_ids = images  # a subset is judged on its own images
    return metric


def _by_shape(dataset: Any, order: Sequence[int], size: int) -> list[list[int]]:
    """Group positions as mmdet does: one device sees only upright or only wide images in a step. This saves padding."""
    from mmdet.datasets.samplers import AspectRatioBatchSampler
    from torch.utils.data import Sampler

    class Given(Sampler[int]):
        def __init__(self) -> None:
            self.dataset = dataset

        def __iter__(self) -> Any:
            return iter(order)

        def __len__(self) -> int:
            return len(order)

    return list(AspectRatioBatchSampler(Given(), size))
