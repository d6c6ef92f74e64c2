"""COCO's layout: found, generated, and refused where a part of it is missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data import coco, finder, generated_coco
from benchmark.errors import MissingInput
from benchmark.paper.datasets import DATA_SETS

COCO = DATA_SETS["coco2017"]
NAMES = tuple(f"thing {number}" for number in range(8))


def test_generated_images_are_real_files_with_boxes_around_what_they_show(tmp_path: Path) -> None:
    root = generated_coco.generate(tmp_path / "made", NAMES, train=3, test=2, size=64)
    folder = coco.CocoFolder(root)
    content = json.loads(folder.annotations("train2017").read_text())
    assert [category["name"] for category in content["categories"]] == list(NAMES)
    assert len(content["images"]) == 3
    for image in content["images"]:
        pixels = np.asarray(Image.open(folder.images("train2017") / image["file_name"]))
        assert pixels.shape == (image["height"], image["width"], 3)
    last = content["annotations"][-1]  # drawn last, so nothing covers it
    image = content["images"][last["image_id"] - 1]
    pixels = np.asarray(Image.open(folder.images("train2017") / image["file_name"]))
    x, y, width, height = last["bbox"]
    centre = pixels[y + height // 2, x + width // 2]
    assert tuple(centre) == generated_coco._COLOURS[(last["category_id"] - 1) // 3]
    assert x >= 0 and x + width < 64 and y >= 0 and y + height < 64


def test_the_same_call_makes_the_same_bytes_and_keeps_what_is_there(tmp_path: Path) -> None:
    one = generated_coco.generate(tmp_path / "one", NAMES, train=2, test=1, size=32)
    other = generated_coco.generate(tmp_path / "other", NAMES, train=2, test=1, size=32)
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert len(files) == 5
    assert all((one / file).read_bytes() == (other / file).read_bytes() for file in files)
    stamp = (one / files[0]).stat().st_mtime_ns
    generated_coco.generate(tmp_path / "one", NAMES, train=9, test=9)
    assert (one / files[0]).stat().st_mtime_ns == stamp


def test_a_set_is_found_in_the_folder_or_in_coco_below_it(tmp_path: Path) -> None:
    root = generated_coco.generate(tmp_path / "data" / "coco", NAMES, train=1, test=1, size=32)
    for place in (tmp_path / "data", root):
        assert finder.find(COCO, place) == root
    identity = coco.CocoFolder(root).identity({"train2017": 1, "val2017": 1})
    assert len(identity["train2017_annotations_sha256"]) == 64


def test_an_incomplete_set_is_none(tmp_path: Path) -> None:
    root = generated_coco.generate(tmp_path / "coco", NAMES, train=1, test=1, size=32)
    (root / "annotations" / "instances_val2017.json").unlink()
    assert finder.find(COCO, root) is None
    with pytest.raises(MissingInput, match=r"COCO 2017 is not in .*\n.*annotations_trainval2017\.zip"):
        finder.require(COCO, root)


def test_a_part_of_coco_is_not_taken_for_its_whole() -> None:
    with pytest.raises(MissingInput, match="val2017 has 4 images, COCO 2017 has 5000"):
        finder.check_whole(COCO, "val2017", 4)
