"""Segmentation as a task: labels, transforms, metric, what methods see, and recipes that are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.data import cityscapes
from benchmark.errors import UsageError
from benchmark.paper.datasets import DATA_SETS
from benchmark.paper.recipe import recipe
from benchmark.plan.experiment import Data, Experiment
from benchmark.train import honouring
from benchmark.train.dense.segmentation import SCALES, TASK, to_train_ids
from methods.spec import MethodSpec

STAND_IN = DATA_SETS["cityscapes"].stand_in.name


def experiment(**changes: Any) -> Experiment:
    return Experiment(
        task="segmentation",
        data=Data(STAND_IN),
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
    honouring.require(experiment())
    with pytest.raises(UsageError, match=named):
        honouring.require(experiment(**changes))


def test_label_ids_become_train_ids() -> None:
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    found = to_train_ids({"gt_seg_map": ids})["gt_seg_map"].ravel()
    assert [int(found[label]) for label in cityscapes.LABEL_IDS] == list(range(19))
    assert (np.delete(found, cityscapes.LABEL_IDS) == cityscapes.IGNORED).all()


def prepared(tmp_path: Path, data: Data | None = None) -> Any:
    pytest.importorskip("mmseg", reason="needs pip install '.[dense]'")
    from benchmark.models import openmmlab

    with openmmlab.scope("mmseg"):
        return TASK.data(replace(experiment(), data=data or Data(STAND_IN)), None, tmp_path)


def test_a_subset_of_test_images_is_no_copy_through_mmengines_shared_memo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepared(tmp_path)
    from mmengine.dataset import BaseDataset

    def copied(*call: Any) -> None:
        raise AssertionError("copies can hold parts of other data sets")

    monkeypatch.setattr(BaseDataset, "get_subset", copied)
    part = prepared(tmp_path, Data(STAND_IN, train=3, test=2))
    assert (len(whole.test), len(part.test), len(part.positions)) == (4, 2, 3)
    paths = [[data.test.get_data_info(n)["img_path"] for n in range(len(data.test))] for data in (whole, part)]
    assert set(paths[1]) < set(paths[0])
    assert part.identity["val_images"] == 2 and part.identity["train_images"] == 3


def test_methods_see_label_maps_and_positions(tmp_path: Path) -> None:
    from benchmark.train.dense.feeding import Augmented

    data = prepared(tmp_path)
    augmented = Augmented(data.train, repetition=0)
    items = [augmented[0, position] for position in (5, 2)]
    inputs = torch.stack([item["inputs"].float() for item in items])
    batch = TASK.batch(inputs, [item["data_samples"] for item in items])
    assert batch.targets.shape == (2, 64, 128) and batch.targets.dtype == torch.long
    assert set(batch.targets.unique().tolist()) <= {*range(19), cityscapes.IGNORED}
    assert batch.indices.tolist() == [5, 2]
    assert data.classes == 19 and len(data.test) == 4
