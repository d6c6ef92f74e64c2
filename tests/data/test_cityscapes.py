import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data import finder
from benchmark.data.cityscapes import IGNORED, IMAGE, LABEL_IDS, LABELS, CityscapesFolder, require
from benchmark.data.generated_cityscapes import COUNTS, generate
from benchmark.errors import MissingInput
from benchmark.paper.datasets import DATA_SETS
from benchmark.train.dense.segmentation import to_train_ids

CITYSCAPES = DATA_SETS["cityscapes"]
ROOT = Path(__file__).resolve().parents[2]
MINI = Path(os.environ.get("BENCHMARK_SHARED_DATA", ROOT.parent / "shared" / "data")) / "cityscapes_mini"


@pytest.fixture
def folder(tmp_path: Path) -> CityscapesFolder:
    return CityscapesFolder(generate(tmp_path / "set", height=48, width=96))


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_the_generated_set_has_cityscapes_layout_and_label_numbers(folder: CityscapesFolder) -> None:
    for split, count in COUNTS.items():
        names = folder.names(split)
        assert len(names) == len(set(names)) == count
        for name in names:
            assert pixels(folder.images(split) / f"{name}{IMAGE}").shape == (48, 96, 3)
            assert (folder.labels(split) / f"{name}{LABELS}").is_file() == (split != "test")
    found = pixels(folder.labels("val") / f"{folder.names('val')[0]}{LABELS}")
    assert len(set(np.unique(found)) & set(LABEL_IDS)) >= 4
    assert set(np.unique(found)) - set(LABEL_IDS), "something is there to be ignored"


def test_the_generated_set_is_the_same_again_and_kept_where_it_is(tmp_path: Path) -> None:
    one, other = (CityscapesFolder(generate(tmp_path / name, 48, 96)) for name in ("one", "other"))
    names = {"train": one.names("train"), "val": one.names("val")}
    assert one.identity(names) == other.identity(names)
    assert generate(one.root, 48, 96) == one.root
    images = {split: count for split, count in COUNTS.items() if split != "test"}
    assert {split: one.identity(names)[f"{split}_images"] for split in images} == images


def test_a_changed_label_is_other_data(folder: CityscapesFolder) -> None:
    names = folder.names("val")
    before = folder.identity({"val": names})
    assert folder.identity({"val": names[:-1]}) != before
    path = folder.labels("val") / f"{names[0]}{LABELS}"
    changed = pixels(path).copy()
    changed[0, 0] = 7
    Image.fromarray(changed).save(path)
    assert folder.identity({"val": names})["val_labels_sha256"] != before["val_labels_sha256"]


def test_it_is_found_in_the_usual_places(
    folder: CityscapesFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert finder.find(CITYSCAPES, folder.root) == folder.root
    folder.root.rename(tmp_path / "cityscapes")
    assert require(CITYSCAPES, tmp_path).root == tmp_path / "cityscapes"
    monkeypatch.setenv("BENCHMARK_DATA", str(tmp_path))
    assert require(CITYSCAPES, None).root == tmp_path / "cityscapes"


def test_what_is_missing_is_named_with_the_fix(folder: CityscapesFolder, tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="Cityscapes is not in") as error:
        require(CITYSCAPES, tmp_path / "nothing", instead=finder.SMOKE)
    assert "leftImg8bit_trainvaltest.zip" in error.value.fix
    assert "--profile smoke" in error.value.fix
    (folder.labels("train") / f"{folder.names('train')[0]}{LABELS}").unlink()
    with pytest.raises(MissingInput, match="1 of 16 images of train have no labels, the first is aville/aville_000000"):
        require(CITYSCAPES, folder.root)
    with pytest.raises(MissingInput, match="val has 4 images, Cityscapes has 500"):
        finder.check_whole(CITYSCAPES, "val", 4)


def test_labels_of_a_real_frame_are_those_of_the_official_conversion() -> None:
    if not MINI.is_dir():
        pytest.skip(f"no frame of Cityscapes in {MINI}")
    folder = CityscapesFolder(MINI)
    (name,) = folder.names("val")
    found = to_train_ids({"gt_seg_map": pixels(folder.labels("val") / f"{name}{LABELS}")})["gt_seg_map"]
    official = pixels(folder.labels("val") / f"{name}_gtFine_labelTrainIds.png")
    # Both files were made smaller, each by itself: they differ where labels meet.
    assert (found == official).mean() > 0.99
    for label in np.unique(found):
        assert np.bincount(official[found == label]).argmax() == label
    assert IGNORED in found
    assert len(np.unique(found)) > 8
