"""A frame of Cityscapes itself, where there is one: read, cropped, learned from and judged by a whole run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from small import settings_in, write_suite

pytest.importorskip("mmseg", reason="needs pip install '.[dense]'")

from benchmark.dense.training import carried_out
from benchmark.experiment import Selection, make_plan
from benchmark.manifest import load

ROOT = Path(__file__).resolve().parent.parent.parent
SHARED = Path(os.environ.get("BENCHMARK_SHARED_DATA", ROOT.parent / "shared" / "data")) / "cityscapes_mini"


@pytest.mark.skipif(not (SHARED / "gtFine" / "val").is_dir(), reason=f"needs a frame of Cityscapes in {SHARED}")
def test_a_run_trains_and_is_judged_on_a_real_frame(workplace: Path) -> None:
    for kind in ("leftImg8bit", "gtFine"):
        (workplace / "cityscapes" / kind).mkdir(parents=True)
        (workplace / "cityscapes" / kind / "val").symlink_to(SHARED / kind / "val")
        cities = {city.name: city for city in (SHARED / kind / "val").iterdir()}
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
    (run,) = make_plan([load(suite)], Selection()).runs
    said: list[str] = []
    record = carried_out(run, settings_in(workplace, data_dir=workplace / "cityscapes", lines=said))
    assert (record.status, record.data["name"]) == ("done", "cityscapes")
    assert (record.data["train_images"], record.data["val_images"]) == (2, 1)
    assert 0 <= record.last["miou"] <= 100 and record.tracked["task.loss_ce"] > 0
    assert not [line for line in said if "NOT Cityscapes" in line]
