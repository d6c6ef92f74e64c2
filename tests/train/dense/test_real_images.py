"""Images of Cityscapes and COCO themselves, where there are some: read, learned from and judged by the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from small import record_of, run_suite, write_suite

pytest.importorskip("mmseg", reason="needs pip install '.[dense]'")
pytest.importorskip("mmdet", reason="needs pip install '.[dense]'")

from mmengine.structures import InstanceData

from benchmark.data import generated_coco
from benchmark.models import openmmlab
from benchmark.paper.manifest import load
from benchmark.plan.experiment import Run, Selection, make_plan
from benchmark.records.store import Record
from benchmark.train.dense.detection import TASK
from benchmark.train.dense.mmengine_evaluation import evaluate

ROOT = Path(__file__).resolve().parents[3]
SHARED = Path(os.environ.get("BENCHMARK_SHARED_DATA", ROOT.parent / "shared" / "data"))
FRAME, PHOTOGRAPHS = SHARED / "cityscapes_mini", SHARED / "coco_mini"
ADVICE = "set BENCHMARK_SHARED_DATA to the folder above it"
needs_frame = pytest.mark.skipif(not (FRAME / "gtFine" / "val").is_dir(), reason=f"no {FRAME}; {ADVICE}")
needs_photographs = pytest.mark.skipif(
    not (PHOTOGRAPHS / "test_coco.json").is_file(), reason=f"no {PHOTOGRAPHS}; {ADVICE}"
)

DIFFKD = {"diffkd": {"branches": ["feature"], "feature_tap": "fpn.[0-2]"}, "regressionkd": {}}
RETINA = {"task": "detection", "data": "coco2017", "student": "retinanet_r50_fpn", "recipe": "coco-1x-one-stage"}


def carried_out_on(data: Path, path: Path, capsys: pytest.CaptureFixture[str]) -> Record:
    """The record of a suite's only run, which the command line trains on a folder of data."""
    run = only_run(path)
    assert run_suite(path, "--data-dir", str(data)) == 0
    assert "NOT C" not in "".join(capsys.readouterr()), "generated images stood in"
    return record_of(run, Path.cwd())


def only_run(path: Path) -> Run:
    (run,) = make_plan([load(path)], Selection()).runs
    return run


@needs_frame
def test_segmentation_trains_and_is_judged_on_a_real_frame(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("leftImg8bit", "gtFine"):
        (workplace / "cityscapes" / kind).mkdir(parents=True)
        (workplace / "cityscapes" / kind / "val").symlink_to(FRAME / kind / "val")
        cities = {city.name: city for city in (FRAME / kind / "val").iterdir()}
        for name, city in cities.items():  # the frame twice, for batch norm cannot learn from one
            for copy in ("first", "second"):
                folder = workplace / "cityscapes" / kind / "train" / copy
                folder.mkdir(parents=True, exist_ok=True)
                for file in city.iterdir():
                    (folder / file.name.replace(name, copy)).symlink_to(file)
    suite = write_suite(
        workplace / "real.yaml",
        {"Student": {"method": "none"}},
        {"task": "segmentation", "data": "cityscapes", "student": "pspnet_resnet18", "recipe": "cityscapes-40k"}
        | {"teacher": "pspnet_resnet18"},
        {"epochs": 1, "train": 2, "test": 1, "batch": 2, "crop": [64, 128]},
        columns=[{"column": "mIoU", "metric": "miou"}],
    )
    record = carried_out_on(workplace / "cityscapes", suite, capsys)
    assert (record.status, record.data.name) == ("done", "cityscapes")
    assert (record.data.more["train_images"], record.data.more["val_images"]) == (2, 1)
    assert 0 <= record.last["miou"] <= 100 and record.tracked["task.loss_ce"] > 0


@needs_photographs
def test_detection_trains_and_is_judged_on_photographs(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = write_suite(
        workplace / "real.yaml",
        {"DiffKD": {"method": DIFFKD}},
        RETINA | {"teacher": {"model": "retinanet_r50_fpn", "weights": "absent.pth"}},
        {"epochs": 1, "train": 2, "test": 2, "batch": 2, "short_side": 96},
        columns=[{"column": "AP", "metric": "ap"}],
    )
    record = carried_out_on(photographs(workplace / "coco"), suite, capsys)
    assert (record.status, record.data.name) == ("done", "coco2017")
    assert (record.data.more["train2017_images"], record.data.more["val2017_images"]) == (2, 2)
    assert 0 <= record.last["ap"] <= 100 and {"ap50", "ap_large"} <= set(record.last)
    assert record.tracked["task.loss_cls"] > 0 and record.tracked["diffkd.feature_0.distillation"] > 0
    assert record.tracked["task.loss_bbox"] > 0, "no box of a photograph reached the loss"


def photographs(folder: Path) -> Path:
    """The photographs in COCO's layout, each both to learn from and to be judged by, with COCO's 80 categories."""
    from mmdet.datasets import CocoDataset

    content = json.loads((PHOTOGRAPHS / "test_coco.json").read_text())
    assert [(c["id"], c["name"]) for c in content["categories"]] == [(1, "person")]
    content["categories"] = [{"id": n, "name": name} for n, name in enumerate(CocoDataset.METAINFO["classes"], 1)]
    (folder / "annotations").mkdir(parents=True)
    for split in ("train2017", "val2017"):
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        (folder / split).symlink_to(PHOTOGRAPHS)
    return folder


def drawn(folder: Path) -> Path:
    """Generated images in the same layout: they are always there."""
    from mmdet.datasets import CocoDataset

    return generated_coco.generate(folder, CocoDataset.METAINFO["classes"], train=2, test=4, size=64)


class Oracle(torch.nn.Module):
    """Knows every box, and where it is told to misses each by a part of its width."""

    def __init__(self, missed: float) -> None:
        super().__init__()
        self.missed = missed

    def test_step(self, batch: dict[str, Any]) -> list[Any]:
        for sample in batch["data_samples"]:
            true = sample.gt_instances
            boxes = getattr(true.bboxes, "tensor", true.bboxes).clone()
            boxes[:, 0::2] += self.missed * (boxes[:, 2:3] - boxes[:, 0:1])
            sample.pred_instances = InstanceData(bboxes=boxes, labels=true.labels, scores=torch.ones(len(boxes)))
        found: list[Any] = batch["data_samples"]
        return found


@pytest.mark.parametrize("made", [drawn, pytest.param(photographs, marks=needs_photographs)])
def test_ap_is_what_the_boxes_deserve(workplace: Path, made: Any) -> None:
    """All right is 100. A fifth of the width beside is an overlap of two thirds: right for AP50, wrong for AP75."""
    suite = write_suite(
        workplace / "ap.yaml",
        {"Student": {"method": "none"}},
        RETINA | {"teacher": "retinanet_r50_fpn"},
        {"short_side": 96},
        columns=[{"column": "AP", "metric": "ap"}],
    )
    folder = made(workplace / "coco")
    openmmlab.prepare()
    with openmmlab.scope("mmdet"):
        data = TASK.data(only_run(suite).experiment, folder, workplace / "runs")
        oracles = [Oracle(missed) for missed in (0.0, 0.2, 1.0)]
        found = [TASK.metrics(evaluate(oracle, data, torch.device("cpu"), "fp32")) for oracle in oracles]
    right, beside, wrong = found
    assert right["ap"] == right["ap50"] == right["ap75"] == pytest.approx(100, abs=0.1)
    assert beside["ap50"] == pytest.approx(100, abs=0.1) and beside["ap75"] == 0
    assert beside["ap"] == pytest.approx(40, abs=0.1)  # thresholds 0.50 to 0.65 of ten
    assert wrong["ap"] < 15  # only what lies on another by chance
