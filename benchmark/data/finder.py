"""Finds data sets that lie in folders, from what their files in `paper/datasets/` say. No image is opened."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from benchmark.errors import MissingInput
from benchmark.paper.datasets import DATA_SETS
from benchmark.paper.datasets.entry import DataSet, OnDisk

ENVIRONMENT = "BENCHMARK_DATA"
DEFAULT_FOLDER = Path("data")  # under the working directory
SMOKE = "or prove the path alone, on generated images: --profile smoke"


def places(data_dir: Path | None) -> list[Path]:
    """List the folders to search: `data_dir` alone if given, else $BENCHMARK_DATA and `data/`."""
    if data_dir is not None:
        return [data_dir]
    named = os.environ.get(ENVIRONMENT)
    return [Path(named), DEFAULT_FOLDER] if named else [DEFAULT_FOLDER]


def folders(data_dir: Path | None, *names: str) -> Iterator[Path]:
    """Yield the folders that may hold a data set: each searched folder itself, then its subfolders of these names."""
    for place in places(data_dir):
        yield from (place.expanduser() / name for name in ("", *names))


def find(wanted: DataSet, data_dir: Path | None, splits: Collection[str] = ()) -> Path | None:
    """Find the first folder that holds a data set, or the splits that are named. Return None if there is none."""
    disk = _on_disk(wanted)
    asked = [files.holds for name, files in disk.splits.items() if (name in splits if splits else files.used)]
    enough = any if disk.in_part else all
    for folder in folders(data_dir, *disk.folders):
        if enough(all(_is_there(folder, name) for name in holds) for holds in asked):
            return folder
    return None


def require(wanted: DataSet, data_dir: Path | None, splits: Collection[str] = (), instead: str = "") -> Path:
    """Find a data set as `find` does, or raise. `instead` is what else the user can do, for the error.

    Raises:
        MissingInput: no place has it.
    """
    found = find(wanted, data_dir, splits)
    if found is None:
        searched, disk = places(data_dir), _on_disk(wanted)
        home = data_dir or searched[0].expanduser() / disk.folders[-1]
        what = f"{wanted.title} ({', '.join(splits)})" if splits else wanted.title
        raise MissingInput(
            f"{what} is not in {' or '.join(map(str, searched))}",
            f"{disk.fix.format(home)}\n  or name the folder that has them with --data-dir{instead and f', {instead}'}",
        )
    return found


def absent(data_dir: Path | None) -> frozenset[str]:
    """Return the names of the data sets that no place has. In smoke runs, generated images stand in for them."""
    return frozenset(name for name, known in DATA_SETS.items() if known.on_disk and find(known, data_dir) is None)


def check_whole(wanted: DataSet, split: str, images: int) -> None:
    """Raise if a split does not have all images that were published.

    Raises:
        MissingInput: another number of images.
    """
    whole = _on_disk(wanted).splits[split].images
    if whole and images != whole:
        raise MissingInput(
            f"{split} has {images} images, {wanted.title} has {whole}",
            f"unpack its archives again, {SMOKE}",
        )


def _on_disk(wanted: DataSet) -> OnDisk:
    assert wanted.on_disk is not None, f"{wanted.name} lies in no folder of its own"
    return wanted.on_disk


def _is_there(folder: Path, name: str) -> bool:
    return (folder / name).is_dir() if name.endswith("/") else (folder / name).is_file()
