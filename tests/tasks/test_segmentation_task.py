"""Segmentation as a task: labels, transforms, metric, what methods see, and recipes that are refused."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.data import cityscapes, generated_cityscapes
from benchmark.data.cityscapes import CityscapesFolder
from benchmark.errors import UsageError
from benchmark.experiment import Data, Experiment
from benchmark.recipe import recipe
from benchmark.tasks.segmentation import SCALES, TASK, to_train_ids
from methods.spec import MethodSpec

ROOT = Path(__file__).resolve().parent.parent.parent
SHARED = Path(os.environ.get("BENCHMARK_SHARED_DATA", ROOT.parent / "shared" / "data")) / "cityscapes_mini"
REAL = "leftImg8bit/val/frankfurt/frankfurt_000000_000294_leftImg8bit.png"


def experiment(**changes: Any) -> Experiment:
    return Experiment(
        task="segmentation",
        data=Data(cityscapes.STAND_IN),
        student="pspnet_resnet18",
        method=MethodSpec.parse("none"),
        recipe=recipe("cityscapes-40k").settings.model_copy(update={"crop": (64, 128)} | changes),
        profile="smoke",
    )


def test_the_schedule_is_that_of_the_source() -> None:
    settings = recipe("cityscapes-40k").settings
    assert (settings.iterations, settings.batch, settings.crop) == (40_000, 16, (512, 1024))
    assert SCALES == (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0)
    assert TASK.evaluate_every(experiment(), steps_an_epoch=186) == 800


def test_a_shortened_training_counts_epochs_and_is_evaluated_a_few_times() -> None:
    short = recipe("cityscapes-40k").settings.scaled_to(100)
    assert (short.epochs, short.iterations) == (100, None)
    assert TASK.evaluate_every(replace(experiment(), recipe=short), steps_an_epoch=2) == 20
    assert TASK.evaluate_every(replace(experiment(), recipe=short.scaled_to(1)), steps_an_epoch=1) == 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"mixup": 0.2}, "mixup"),
        ({"augmentation": "detection"}, "augmentation detection"),
        ({"schedule": "cosine"}, "schedule cosine"),
    ],
)
def test_a_recipe_that_would_be_carried_out_in_part_is_refused(changes: dict[str, Any], named: str) -> None:
    TASK.check(experiment())
    with pytest.raises(UsageError, match=named):
        TASK.check(experiment(**changes))


def test_label_ids_become_train_ids() -> None:
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    found = to_train_ids({"gt_seg_map": ids})["gt_seg_map"].ravel()
    assert [int(found[label]) for label in cityscapes.LABEL_IDS] == list(range(19))
    assert (np.delete(found, cityscapes.LABEL_IDS) == cityscapes.IGNORED).all()


@pytest.mark.skipif(not (SHARED / REAL).is_file(), reason=f"needs a frame of Cityscapes in {SHARED}")
def test_label_ids_of_a_real_frame_become_the_train_ids_published_with_it() -> None:
    folder = CityscapesFolder(SHARED)
    labels = folder.labels("val") / f"{folder.names('val')[0]}{cityscapes.LABELS}"
    published = labels.with_name(labels.name.replace("labelIds", "labelTrainIds"))
    ids, expected = (np.array(Image.open(path)) for path in (labels, published))
    found = to_train_ids({"gt_seg_map": ids})["gt_seg_map"]
    agree = found == expected
    assert agree.mean() > 0.995, "a reduced frame: its two maps were resized one by one, and differ along edges"
    for label in np.unique(ids):
        assert agree[ids == label].mean() > 0.9, f"label id {label}"


def prepared(tmp_path: Path) -> Any:
    pytest.importorskip("mmseg", reason="needs pip install '.[dense]'")
    from benchmark.dense import stack

    with stack.scope("segmentation"):
        return TASK.data(experiment(), None, tmp_path)


def test_crops_show_what_their_labels_say(tmp_path: Path) -> None:
    from benchmark.dense.feeding import Augmented

    data = prepared(tmp_path)
    augmented = Augmented(data.train, repetition=0)
    colours = generated_cityscapes._COLOURS
    sizes, flips = set(), set()
    for epoch in range(12):
        item = augmented[epoch, epoch % 16]
        pixels, labels = item["inputs"], item["data_samples"].gt_sem_seg.data[0]
        assert pixels.shape == (3, 64, 128) and labels.shape == (64, 128)
        sizes.add(item["data_samples"].scale_factor)
        flips.add(item["data_samples"].flip)
        for train_id in labels.unique().tolist():
            seen = labels == train_id
            if train_id == cityscapes.IGNORED or int(seen.sum()) < 400:
                continue
            colour = torch.tensor(colours[cityscapes.LABEL_IDS[train_id]][::-1]).float()  # blue first
            mean = torch.stack([channel[seen].float().mean() for channel in pixels])
            assert (mean - colour).abs().max() < 30, "noise, shade and blurred edges aside"
    assert len(sizes) > 4 and flips == {True, False}
    again = augmented[3, 3]
    assert torch.equal(again["inputs"], augmented[3, 3]["inputs"])


def test_methods_see_label_maps_and_positions(tmp_path: Path) -> None:
    from benchmark.dense.feeding import Augmented

    data = prepared(tmp_path)
    augmented = Augmented(data.train, repetition=0)
    items = [augmented[0, position] for position in (5, 2)]
    inputs = torch.stack([item["inputs"].float() for item in items])
    batch = TASK.batch(inputs, [item["data_samples"] for item in items])
    assert batch.targets.shape == (2, 64, 128) and batch.targets.dtype == torch.long
    assert set(batch.targets.unique().tolist()) <= {*range(19), cityscapes.IGNORED}
    assert batch.indices.tolist() == [5, 2]
    assert data.classes == 19 and len(data.test) == 4


def test_miou_is_that_of_a_plain_confusion_matrix(tmp_path: Path) -> None:
    data = prepared(tmp_path)
    draw = np.random.default_rng(0)
    confusion = np.zeros((19, 19), np.int64)
    for position in range(len(data.test)):
        sample = data.test[position]["data_samples"]
        labels = sample.gt_sem_seg.data[0].numpy()
        guess = np.where(draw.random(labels.shape) < 0.7, np.where(labels == 255, 0, labels), draw.integers(0, 19))
        known = labels != 255
        np.add.at(confusion, (labels[known], guess[known]), 1)
        sample.set_data({"pred_sem_seg": type(sample.gt_sem_seg)(data=torch.from_numpy(guess)[None].long())})
        data.evaluator.process(data_samples=[sample], data_batch=None)
    found = TASK.metrics(data.evaluator.evaluate(len(data.test)))
    hits = np.diag(confusion)
    with np.errstate(invalid="ignore"):
        iou = hits / (confusion.sum(0) + confusion.sum(1) - hits)
    assert found["miou"] == pytest.approx(100 * np.nanmean(iou), abs=0.01)
    assert found["pixel_accuracy"] == pytest.approx(100 * hits.sum() / confusion.sum(), abs=0.01)
