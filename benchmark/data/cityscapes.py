"""Cityscapes, or any set in its layout: images in `leftImg8bit/SPLIT/CITY/`, labels in `gtFine/SPLIT/CITY/`."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark.data import finder
from benchmark.errors import MissingInput
from benchmark.paper.datasets.entry import DataSet

IMAGE, LABELS = "_leftImg8bit.png", "_gtFine_labelIds.png"  # the archives have these; no conversion is needed

# The label that the archives use for each of the 19 classes, in the order of the classes; all others are ignored.
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
IGNORED = 255


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

    def identity(self, used: Mapping[str, Iterable[str]]) -> dict[str, object]:
        """Return the data's identity for records: for each split, its number of images and the hash of its labels."""
        facts: dict[str, object] = {}
        for split, names in used.items():
            digest, count = hashlib.sha256(), 0
            for name in names:
                digest.update(name.encode() + (self.labels(split) / f"{name}{LABELS}").read_bytes())
                count += 1
            facts |= {f"{split}_images": count, f"{split}_labels_sha256": digest.hexdigest()}
        return facts


def require(
    wanted: DataSet, data_dir: Path | None, splits: Collection[str] = (), instead: str = ""
) -> CityscapesFolder:
    """Find the folder of a data set in this layout. Every image must have labels, except in the split `test`.

    `splits` are those to look for; without any, those that runs use. `instead` is what else the user can do.

    Raises:
        MissingInput: it is in none of the places, or labels are missing.
    """
    folder = CityscapesFolder(finder.require(wanted, data_dir, splits, instead))
    assert wanted.on_disk is not None
    fix = wanted.on_disk.fix.format(folder.root)
    for split in splits or [name for name, files in wanted.on_disk.splits.items() if files.used]:
        names = folder.names(split)
        if not names:
            raise MissingInput(f"{folder.images(split)} holds no images *{IMAGE}", fix)
        absent = [n for n in names if split != "test" and not (folder.labels(split) / f"{n}{LABELS}").is_file()]
        if absent:
            raise MissingInput(
                f"{len(absent)} of {len(names)} images of {split} have no labels, the first is {absent[0]}", fix
            )
    return folder
