"""Cityscapes, or any set in its layout: images in `leftImg8bit/SPLIT/CITY/`, labels in `gtFine/SPLIT/CITY/`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.data.locate import folders, places
from benchmark.errors import MissingInput
from benchmark.paper.datasets import DATA_SETS

NAME = "cityscapes"
STAND_IN = DATA_SETS[NAME].stand_in.name
STAND_IN_NOTE = "generated images with labels, NOT Cityscapes: figures show that the path works, no more"
SPLITS = {"train": 2_975, "val": 500, "test": 1_525}  # images with fine labels, as cityscapes-dataset.com states
FOLDER = "cityscapes"
IMAGE, LABELS = "_leftImg8bit.png", "_gtFine_labelIds.png"  # the archives have these; no conversion is needed

# The label that the archives use for each of the 19 classes, in the order of the classes; all others are ignored.
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
IGNORED = 255

FIX = (
    "unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of cityscapes-dataset.com into {}\n"
    "  or name the folder that has them with --data-dir, or prove the path alone: --profile smoke"
)


@dataclass(frozen=True)
class CityscapesFolder:
    """A folder with images and their labels in Cityscapes' layout."""

    root: Path

    def images(self, split: str) -> Path:
        """Return the folder with a split's images; it has one folder for each city."""
        return self.root / "leftImg8bit" / split

    def labels(self, split: str) -> Path:
        """Return the folder with a split's labels."""
        return self.root / "gtFine" / split

    def names(self, split: str) -> list[str]:
        """List a split's images as `city/image`, without file endings, sorted."""
        found = self.images(split).glob(f"*/*{IMAGE}")
        return sorted(f"{path.parent.name}/{path.name.removesuffix(IMAGE)}" for path in found)

    def identity(self, used: Mapping[str, Iterable[str]]) -> dict[str, Any]:
        """Return the data's identity for records: for each split, its number of images and the hash of its labels."""
        facts: dict[str, Any] = {}
        for split, names in used.items():
            digest, count = hashlib.sha256(), 0
            for name in names:
                digest.update(name.encode() + (self.labels(split) / f"{name}{LABELS}").read_bytes())
                count += 1
            facts |= {f"{split}_images": count, f"{split}_labels_sha256": digest.hexdigest()}
        return facts


def find(data_dir: Path | None, splits: Iterable[str] = ("train", "val")) -> CityscapesFolder | None:
    """Find the first known folder that has images of these splits. Return None if there is none."""
    for found in map(CityscapesFolder, folders(data_dir, FOLDER)):
        if all(found.images(split).is_dir() for split in splits):
            return found
    return None


def require(data_dir: Path | None, splits: Iterable[str] = ("train", "val")) -> CityscapesFolder:
    """Find the folder with these splits, or raise. Every image must have labels, except in the split `test`.

    Raises:
        MissingInput: it is in none of the places, or labels are missing.
    """
    splits = tuple(splits)
    found = find(data_dir, splits)
    place = data_dir or places(None)[0] / FOLDER
    if found is None:
        raise MissingInput(f"Cityscapes ({', '.join(splits)}) is not in {place}", FIX.format(place))
    for split in splits:
        names = found.names(split)
        if not names:
            raise MissingInput(f"{found.images(split)} holds no images *{IMAGE}", FIX.format(found.root))
        absent = [n for n in names if split != "test" and not (found.labels(split) / f"{n}{LABELS}").is_file()]
        if absent:
            raise MissingInput(
                f"{len(absent)} of {len(names)} images of {split} have no labels, the first is {absent[0]}",
                f"unpack gtFine_trainvaltest.zip of cityscapes-dataset.com into {found.root}",
            )
    return found


def check_whole(split: str, images: int) -> None:
    """Raise if a split does not have all images of Cityscapes.

    Raises:
        MissingInput: another number of images.
    """
    if images != SPLITS[split]:
        raise MissingInput(
            f"{split} has {images} images, Cityscapes has {SPLITS[split]}",
            "unpack leftImg8bit_trainvaltest.zip again, or prove the path on a part with --profile smoke",
        )
