"""Cityscapes' layout: found, refused with a fix, and generated in its format."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.data import cityscapes, finder, generated_cityscapes
from benchmark.data.cityscapes import CityscapesFolder
from benchmark.errors import MissingInput
from benchmark.paper.datasets import DATA_SETS

CITYSCAPES = DATA_SETS["cityscapes"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> CityscapesFolder:
    return CityscapesFolder(generated_cityscapes.generate(tmp_path_factory.mktemp("data") / "cityscapes"))


def test_an_identity_tells_which_labels_were_used(tmp_path: Path) -> None:
    folder = CityscapesFolder(generated_cityscapes.generate(tmp_path / "cityscapes"))
    names = folder.names("val")
    whole = folder.identity({"val": names})
    assert whole["val_images"] == len(names) == 4
    assert folder.identity({"val": names[:3]})["val_labels_sha256"] != whole["val_labels_sha256"]
    changed = folder.labels("val") / f"{names[0]}{cityscapes.LABELS}"
    changed.write_bytes(changed.read_bytes() + b" ")
    assert folder.identity({"val": names})["val_labels_sha256"] != whole["val_labels_sha256"]


def test_the_folder_is_found_where_it_usually_lies_and_where_it_is_named(
    scenes: CityscapesFolder, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert finder.find(CITYSCAPES, None) is None
    assert finder.find(CITYSCAPES, scenes.root) == scenes.root
    assert finder.find(CITYSCAPES, scenes.root.parent) == scenes.root
    monkeypatch.setenv("BENCHMARK_DATA", str(scenes.root.parent))
    assert cityscapes.require(CITYSCAPES, None) == scenes
    assert finder.find(CITYSCAPES, workplace) is None, "a folder that is named is the only one looked in"


def test_without_cityscapes_the_error_says_what_belongs_where(workplace: Path) -> None:
    with pytest.raises(MissingInput) as caught:
        cityscapes.require(CITYSCAPES, workplace / "elsewhere", ("test",), finder.SMOKE)
    assert caught.value.message == f"Cityscapes (test) is not in {workplace / 'elsewhere'}"
    for part in ("leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip", "--data-dir", "--profile smoke"):
        assert part in caught.value.fix


def test_a_part_is_refused_where_the_whole_is_asked_for() -> None:
    for split, expected in (("train", 2975), ("val", 500), ("test", 1525)):
        finder.check_whole(CITYSCAPES, split, expected)
        with pytest.raises(MissingInput, match=f"{split} has 7 images, Cityscapes has {expected}"):
            finder.check_whole(CITYSCAPES, split, 7)


def test_an_image_without_labels_is_named(tmp_path: Path) -> None:
    folder = CityscapesFolder(generated_cityscapes.generate(tmp_path / "cityscapes"))
    name = folder.names("val")[2]
    (folder.labels("val") / f"{name}{cityscapes.LABELS}").unlink()
    with pytest.raises(MissingInput, match=f"1 of 4 images of val have no labels, the first is {name}") as caught:
        cityscapes.require(CITYSCAPES, folder.root)
    assert "gtFine_trainvaltest.zip" in caught.value.fix


def test_a_split_without_images_is_refused(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / "leftImg8bit" / split / "city").mkdir(parents=True)
    with pytest.raises(MissingInput, match="holds no images"):
        cityscapes.require(CITYSCAPES, tmp_path)


def test_looking_for_cityscapes_needs_no_torch() -> None:
    program = "import sys, json, benchmark.data.cityscapes; print(json.dumps('torch' in sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) is False
