"""COCO 2017, or any set in its layout: `annotations/instances_train2017.json`, `train2017/` and so on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.data.locate import folders, places
from benchmark.errors import MissingInput
from benchmark.paper.datasets import DATA_SETS

NAME = "coco2017"
STAND_IN = DATA_SETS[NAME].stand_in.name
STAND_IN_NOTE = "generated images with boxes, NOT COCO: figures show that the path works, no more"
SPLITS = {"train2017": 118_287, "val2017": 5_000}  # images, as cocodataset.org states
FOLDER = "coco"
FIX = (
    "unpack train2017.zip, val2017.zip and annotations_trainval2017.zip of cocodataset.org into {}\n"
    "  or name the folder that has them with --data-dir, or prove the path alone: --profile smoke"
)


@dataclass(frozen=True)
class CocoFolder:
    """A folder with images and their annotations in COCO's layout."""

    root: Path

    def annotations(self, split: str) -> Path:
        """Return the annotation file (JSON) of a split."""
        return self.root / "annotations" / f"instances_{split}.json"

    def images(self, split: str) -> Path:
        """Return the folder with a split's images."""
        return self.root / split

    def identity(self, images: Mapping[str, int]) -> dict[str, Any]:
        """Return the identity of the data for records: the annotation files' hashes and the numbers of images used."""
        hashes = {split: hashlib.sha256(self.annotations(split).read_bytes()).hexdigest() for split in SPLITS}
        return {f"{split}_annotations_sha256": found for split, found in hashes.items()} | {
            f"{split}_images": count for split, count in images.items()
        }


def find(data_dir: Path | None) -> CocoFolder | None:
    """Find the first known folder that has both splits. Return None if there is none."""
    for found in map(CocoFolder, folders(data_dir, FOLDER)):
        if all(found.annotations(split).is_file() and found.images(split).is_dir() for split in SPLITS):
            return found
    return None


def require(data_dir: Path | None) -> CocoFolder:
    """Find the folder with both splits, or raise.

    Raises:
        MissingInput: it is in none of the places.
    """
    found = find(data_dir)
    if found is None:
        place = data_dir or places(None)[0] / FOLDER
        raise MissingInput(f"COCO 2017 is not in {place}", FIX.format(place))
    return found


def check_whole(split: str, images: int) -> None:
    """Raise if a split does not have all images of COCO.

    Raises:
        MissingInput: another number of images.
    """
    if images != SPLITS[split]:
        raise MissingInput(
            f"the annotations of {split} name {images} images, COCO 2017 has {SPLITS[split]}",
            "fetch annotations_trainval2017.zip again, or prove the path on a part with --profile smoke",
        )
