"""Finding, checking and listing folders of images, and the generated one."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder as Torchvisions

from benchmark.data.class_folders import MARKER
from benchmark.data.finder import find, require
from benchmark.data.generated_folder import Request, generate
from benchmark.data.image_index import ImageFolder, load
from benchmark.data.imagenet100 import CMC
from benchmark.errors import BenchmarkError, MissingInput, UsageError
from benchmark.paper.datasets import DATA_SETS

REQUEST = Request(classes=3, train=12, test=6, scale=0.1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return generate(tmp_path / "images", REQUEST)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "diffkd-benchmark"


def listed(folder: Path, **options: object) -> ImageFolder:
    return load("generated", folder, **options)


def paths(found: ImageFolder) -> list[str]:
    return [found.train.path(position) for position in range(len(found.train))]


def test_generated_images_are_jpegs_of_imagenets_sizes(tmp_path: Path) -> None:
    root = generate(tmp_path / "images", Request(classes=2, train=8, test=2))
    files = sorted(root.glob("*/*/*.JPEG"))
    sizes = []
    for file in files:
        with Image.open(file) as image:
            assert image.format == "JPEG"
            sizes.append(image.size)
    assert all(300 <= min(size) <= max(size) <= 640 for size in sizes)
    assert 60_000 < np.mean([file.stat().st_size for file in files]) < 180_000
    assert b"NOT ImageNet" in files[0].read_bytes()


def test_the_same_request_makes_the_same_files_and_another_seed_others(tmp_path: Path) -> None:
    one, two = (generate(tmp_path / name, REQUEST) for name in "ab")
    other = generate(tmp_path / "c", Request(classes=3, train=12, test=6, scale=0.1, seed=1))
    files = [path.relative_to(one) for path in sorted(one.glob("*/*/*"))]
    assert len(files) == 18
    assert all((one / file).read_bytes() == (two / file).read_bytes() for file in files)
    assert not any((one / file).read_bytes() == (other / file).read_bytes() for file in files)


def test_generated_folders_are_kept_and_nothing_else_is_overwritten(folder: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert generate(folder, REQUEST) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    with pytest.raises(UsageError, match="something else"):
        generate(folder, Request(classes=3, train=15, test=6, scale=0.1))
    with pytest.raises(UsageError, match="3 classes"):
        generate(tmp_path / "few", Request(classes=3, train=2, test=3))
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_generated_images_say_so(folder: Path, tmp_path: Path) -> None:
    found = load("imagenet", folder)
    assert found.generated
    assert "not imagenet" in found.note
    assert found.identity["name"] == "generated-imagefolder"
    (folder / MARKER).unlink()
    assert listed(folder).note == ""


def test_images_and_labels_are_those_of_torchvisions_imagefolder(folder: Path) -> None:
    found, theirs = listed(folder), Torchvisions(folder / "train")
    assert list(found.classes) == theirs.classes
    assert list(zip(paths(found), found.train.labels.tolist(), strict=True)) == theirs.samples
    assert len(found.test) == 6
    assert found.train.sizes.tolist() == [Path(path).stat().st_size for path in paths(found)]


def test_a_listing_is_remembered_until_a_class_folder_changes(folder: Path, own_cache: Path) -> None:
    before = listed(folder)
    removed = Path(paths(before)[0])
    times = removed.parent.stat()
    removed.unlink()
    os.utime(removed.parent, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert paths(listed(folder)) == paths(before)  # nothing shows that the folder has changed: it was not read again
    shutil.copy(paths(before)[1], removed.parent / "new.jpg")
    assert f"{removed.parent}/new.jpg" in paths(listed(folder))
    assert str(removed) not in paths(listed(folder))
    for file in own_cache.iterdir():
        file.write_bytes(b"broken")
    assert len(paths(listed(folder))) == 12


def test_a_cache_that_cannot_be_written_is_done_without(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert len(listed(folder, cache=tmp_path / "file").train) == 12


def test_identity_follows_the_files(folder: Path) -> None:
    before = listed(folder).identity
    assert listed(folder).identity == before
    file = Path(paths(listed(folder))[0])
    file.rename(file.with_name("renamed.JPEG"))
    after = listed(folder).identity
    assert {key for key in before if before[key] != after[key]} == {"train_files_sha256"}


def test_subsets_are_balanced_and_nested(folder: Path) -> None:
    large, small = (listed(folder, subset_train=size, subset_test=3, subset_seed=5) for size in (9, 6))
    assert Counter(large.train.labels.tolist()) == {0: 3, 1: 3, 2: 3}
    assert set(paths(small)) < set(paths(large))
    assert sorted(large.test.labels.tolist()) == [0, 1, 2]
    assert (large.identity["subset_train"], large.identity["seed"]) == (9, 5)
    assert listed(folder, subset_train=12, subset_seed=5).identity == listed(folder).identity
    with pytest.raises(UsageError, match="subset of 13"):
        listed(folder, subset_train=13)


def test_held_out_images_are_tested_and_not_trained_on(folder: Path) -> None:
    whole, found = listed(folder), listed(folder, holdout=3)
    tested = [found.test.path(position) for position in range(3)]
    assert sorted(paths(found) + tested) == sorted(paths(whole))
    assert sorted(found.test.labels.tolist()) == [0, 1, 2]
    with pytest.raises(BenchmarkError, match="hold out 12"):
        listed(folder, holdout=12)


def refusal(folder: Path) -> MissingInput:
    with pytest.raises(MissingInput) as caught:
        listed(folder)
    assert caught.value.fix
    return caught.value


def test_a_missing_split_is_named(folder: Path) -> None:
    shutil.rmtree(folder / "val")
    assert f"{folder} has no folder val/" in refusal(folder).message
    error = refusal(folder / "train")
    assert "has no folder train/" in error.message
    assert str(folder) in error.fix


def test_validation_images_without_class_folders_are_named(folder: Path) -> None:
    for image in (folder / "val").glob("*/*"):
        image.rename(folder / "val" / image.name)
    for name in listed_folders(folder / "val"):
        name.rmdir()
    error = refusal(folder)
    assert "no class folder, g0000_0.JPEG among them" in error.message
    assert "val/CLASS/IMAGE.JPEG" in error.fix


def listed_folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()]


def test_archives_that_were_not_unpacked_are_named_and_mended_by_the_command(folder: Path) -> None:
    for name in listed_folders(folder / "train"):
        shutil.make_archive(str(name), "tar", name)
        shutil.rmtree(name)
    error = refusal(folder)
    assert "g0000.tar among them" in error.message
    assert os.system(error.fix) == 0
    assert [path.name for path in sorted(listed_folders(folder / "train"))] == ["g0000", "g0001", "g0002"]
    assert len(listed(folder).train) == 12


def test_files_that_cannot_be_images_are_named(folder: Path) -> None:
    empty, gone = folder / "train" / "g0000" / "g0000_0.JPEG", folder / "train" / "g0001" / "x.jpg"
    empty.write_bytes(b"")
    gone.symlink_to(folder / "nowhere")
    message = refusal(folder).message
    assert f"{empty}: empty file" in message
    assert f"{gone}: No such file" in message


def test_an_empty_class_is_named(folder: Path) -> None:
    for split in ("train", "val"):
        (folder / split / "empty").mkdir()
        (folder / split / "empty" / "notes.txt").write_text("no image")
    assert f"{folder}/train/empty: no image in this class" in refusal(folder).message


def test_splits_with_other_classes_are_told_apart(folder: Path) -> None:
    (folder / "val" / "g0002").rename(folder / "val" / "h0002")
    assert "1 classes of train/ are not in val/: g0002" in refusal(folder).message


def stand_in(root: Path, names: list[str], images: int) -> Path:
    """A tree of one-byte files: enough to be listed."""
    for split, number in (("train", 1), ("val", images)):
        for name in names:
            (root / split / name).mkdir(parents=True)
            for image in range(number):
                (root / split / name / f"{image}.JPEG").write_bytes(b"x")
    return root


def test_imagenet100_takes_cmcs_classes_of_a_larger_folder(tmp_path: Path) -> None:
    assert len(set(CMC)) == 100
    root = stand_in(tmp_path / "imagenet", [*CMC, "n00000001", "n99999999"], 50)
    found = load("imagenet100", root)
    assert found.classes == tuple(sorted(CMC))
    assert found.train.labels.tolist() == list(range(100))
    assert all(Path(path).parent.name == found.classes[i] for i, path in enumerate(paths(found)))
    first = load("imagenet100", root, classes="first-100")
    assert first.classes == ("n00000001", *sorted(CMC)[:99])
    assert first.identity["classes_sha256"] != found.identity["classes_sha256"]
    (tmp_path / "mine").write_text("n99999999\nn00000001\n")
    assert load("pair", root, classes=tmp_path / "mine").classes == ("n00000001", "n99999999")
    (root / "val" / CMC[3] / "7.JPEG").unlink()
    with pytest.raises(MissingInput, match="4,999 validation images, not 5,000"):
        load("imagenet100", root)
    with pytest.raises(MissingInput, match="102 classes, not 1,000"):
        load("imagenet", root)
    shutil.rmtree(root / "val" / CMC[3])
    shutil.rmtree(root / "train" / CMC[3])
    with pytest.raises(MissingInput, match=f"lacks 1 of the 100 classes asked for: {CMC[3]}"):
        load("imagenet100", root)


def test_a_wrong_class_list_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no class list 'cmcc'"):
        listed(folder, classes="cmcc")
    (tmp_path / "twice").write_text("g0001 g0001")
    with pytest.raises(UsageError, match="1 of them different"):
        listed(folder, classes=tmp_path / "twice")


def test_folders_are_found_where_they_are_looked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find(DATA_SETS["imagenet"], folder) == folder
    store = tmp_path / "store"
    store.mkdir()
    shutil.copytree(folder, store / "imagenet")
    monkeypatch.setenv("BENCHMARK_DATA", str(store))
    assert find(DATA_SETS["imagenet"], None) == store / "imagenet"
    assert find(DATA_SETS["imagenet100"], None) == store / "imagenet"
    (store / "imagenet").rename(store / "imagenet100")
    assert find(DATA_SETS["imagenet100"], store) == store / "imagenet100"
    with pytest.raises(MissingInput, match="ImageNet is not in") as caught:
        require(DATA_SETS["imagenet"], None)
    assert str(store / "imagenet") in caught.value.fix
