"""What `doctor` and `list data` say of data sets: counted by the names of files, in the words of a run's own errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.cli.parser import main
from benchmark.data import class_folders, inventory
from benchmark.data.finder import ENVIRONMENT
from benchmark.data.imagenet100 import CMC
from benchmark.data.inventory import Entry
from benchmark.errors import MissingInput
from benchmark.paper.datasets import DATA_SETS, IMAGE_FOLDERS
from benchmark.paper.datasets.entry import SplitFiles
from benchmark.paper.manifest import load_all


@pytest.fixture(autouse=True)
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "store"))


def tree(root: Path, names: list[str], train: int = 1, validation: int = 1) -> Path:
    """Empty files with images' names: whatever opens one fails."""
    for split, number in (("train", train), ("val", validation)):
        for name in names:
            (root / split / name).mkdir(parents=True)
            for image in range(number):
                (root / split / name / f"{image}.JPEG").touch()
            (root / split / name / "notes.txt").touch()
    return root


def entry(name: str, data_dir: Path | None = None) -> Entry:
    (found,) = (each for each in inventory.inventory(data_dir) if each.name == name)
    return found


def test_every_data_set_of_the_suites_has_an_entry() -> None:
    named = {cell.setting.data for suite in load_all() for cell in suite.cells} - {None}
    assert named <= {each.name for each in inventory.inventory(None)} == set(DATA_SETS)


@pytest.mark.parametrize("name", IMAGE_FOLDERS)
def test_an_absent_folder_says_where_it_was_looked_for_and_what_to_do(name: str, tmp_path: Path) -> None:
    found = entry(name)
    assert (found.state, found.where) == ("absent", None)
    assert found.found == f"{DATA_SETS[name].title} is not in {tmp_path / 'store'} or data"
    assert f"arrange the images as {tmp_path / 'store'}/imagenet/train/CLASS/IMAGE.JPEG" in found.fix
    assert found.fix.endswith("--profile smoke")


def test_a_whole_folder_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = DATA_SETS["imagenet"]
    assert known.on_disk is not None
    splits = {"train": SplitFiles(("train/",), 6), "val": SplitFiles(("val/",), 3)}
    small = replace(known, classes=3, on_disk=replace(known.on_disk, splits=splits))
    monkeypatch.setitem(DATA_SETS, "imagenet", small)  # type: ignore[misc]
    root = tree(tmp_path / "store" / "imagenet", ["a", "b", "c"], train=2)
    found = entry("imagenet")
    assert found == Entry("imagenet", "ok", "3 classes, 6 training and 3 validation images", root)
    assert found.line == f"{root}: {found.found}"


def test_imagenet100_is_counted_in_a_folder_of_more_classes(tmp_path: Path) -> None:
    root = tree(tmp_path / "all", [*CMC, "n00000001"], train=2, validation=50)
    found = entry("imagenet100", root)
    assert (found.state, found.where) == ("ok", root)
    assert found.found == "100 classes, 200 training and 5,000 validation images"
    assert entry("imagenet", root).state == "incomplete"


def test_a_part_is_told_from_the_whole_as_a_run_would(tmp_path: Path) -> None:
    root = tree(tmp_path / "part", ["n01440764", "n01443537"])
    found = entry("imagenet", root)
    assert (found.state, found.where) == ("incomplete", root)
    assert "2 classes, not 1,000; 2 training images, not 1,281,167; 2 validation images, not 50,000" in found.found
    assert "https://image-net.org/download" in found.fix
    assert found.line == found.found  # which names the folder
    with pytest.raises(MissingInput, match="lacks 100 of the 100 classes"):
        class_folders.census("imagenet100", root)


def test_generated_images_are_never_taken_for_the_data_set(tmp_path: Path) -> None:
    root = tree(tmp_path / "made", ["g0", "g1"])
    (root / class_folders.MARKER).touch()
    for name in IMAGE_FOLDERS:
        found = entry(name, root)
        assert found.state == "generated"
        assert found.found == "2 classes, 2 training and 2 validation images, all generated: for smoke runs alone"


def test_list_data_looks_where_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tree(tmp_path / "part", ["n01440764", "n01443537"])
    assert main(["list", "data", "--json", "--data-dir", str(root)]) == 0
    rows = {row["data"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["imagenet"]["state"], rows["imagenet"]["where"]) == ("incomplete", str(root))
    assert rows["generated"]["state"] == "built in"
    assert all(row["state"] in ("ok", "built in") or row["fix"] for row in rows.values())
