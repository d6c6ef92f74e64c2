"""Detection and segmentation compute in the precision that is recorded, whatever the process was set to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import detection_runs
import pytest
import segmentation_runs
import torch
from products import FP32, Watch, watched_products
from small import settings_in

from benchmark.bench import dense
from benchmark.data.generated_cityscapes import generate
from benchmark.models import openmmlab
from benchmark.probe.saliency import looked
from benchmark.train.dense.generators import own_generators
from benchmark.train.dense.mmengine_loop import DenseTraining
from benchmark.train.dense.segmentation import segmentor
from benchmark.train.dense.server_archive import write_server_archive
from benchmark.train.dense.trainer import Trainer
from benchmark.train.trainer import record_from


@pytest.fixture
def watch() -> Iterator[Watch]:
    with watched_products() as watched:
        yield watched


@pytest.mark.slow
def test_the_bench_of_a_step(workplace: Path, watch: Watch) -> None:
    path = segmentation_runs.suite(workplace)
    assert dense.main([str(path), "--only", "DiffKD", "--steps", "1", "--device", "cpu", "--threads", "1"]) == 0
    assert watch.found.keys() == {FP32}, watch.found


def test_the_servers_archive(workplace: Path, watch: Watch) -> None:
    torch.save(segmentor("pspnet_resnet18", 19).state_dict(), workplace / "s.pth")
    where = {"data_dir": generate(workplace / "set", 48, 96), "whole": False}
    write_server_archive("pspnet_resnet18", workplace / "s.pth", workplace / "out.zip", **where)  # type: ignore[arg-type]
    assert watch.found.keys() == {FP32}, watch.found


@pytest.mark.slow
def test_a_run_and_the_measurement_of_its_teacher(workplace: Path, watch: Watch) -> None:
    run = segmentation_runs.runs_by_row(segmentation_runs.suite(workplace))["DiffKD"]
    assert record_from(Trainer(settings_in(workplace)).train(run)).status == "done"
    assert watch.found.keys() == {FP32}, watch.found
    assert any("_measure_teacher" in place for place in watch.found[FP32])


@pytest.mark.slow
def test_the_figure_of_a_run(workplace: Path, watch: Watch) -> None:
    path = detection_runs.suite(workplace, profile={"epochs": 1, "short_side": 96, "train": 2, "test": 1})
    run = detection_runs.runs_by_row(path)["DiffKD"]
    with openmmlab.scope("mmdet"), own_generators("fp32", torch.device("cpu")):
        training = DenseTraining(run, settings_in(workplace))
        training.finish("done")
    looked(run, settings_in(workplace), 1)
    assert watch.found.keys() == {FP32}, watch.found
    assert any("looked" in place for place in watch.found[FP32])
