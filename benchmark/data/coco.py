"""Finds COCO 2017, or any set in its layout: `annotations/instances_train2017.json`, `train2017/` and so on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.data.locate import DENSE_STAND_INS, folders, places
from benchmark.errors import MissingInput

NAME = "coco2017"
STAND_IN = DENSE_STAND_INS[NAME]
STAND_IN_NOTE = "generated images with boxes, NOT COCO: figures show that the path works, no more"
SPLITS = {"train2017": 118_287, "val2017": 5_000}  # images, as cocodataset.org states
FOLDER = "coco"
FIX = (
    "unpack train2017.zip, val2017.zip and annotations_trainval2017.zip of cocodataset.org into {}\n"
    "  or name the folder that has them with --data-dir, or prove the path alone: --profile smoke"
)


@dataclass(frozen=True)
class CocoFolder:
    """Where the images and their annotations lie."""

    root: Path

    def annotations(self, split: str) -> Path:
        """The file with a split's boxes."""
        return self.root / "annotations" / f"instances_{split}.json"

    def images(self, split: str) -> Path:
        """The folder with a split's images."""
        return self.root / split

    def identity(self, images: Mapping[str, int]) -> dict[str, Any]:
        """What the data really are, for records: the annotation files' hashes and how many images are used."""
        hashes = {split: hashlib.sha256(self.annotations(split).read_bytes()).hexdigest() for split in SPLITS}
        return {f"{split}_annotations_sha256": found for split, found in hashes.items()} | {
            f"{split}_images": count for split, count in images.items()
        }


def find(data_dir: Path | None) -> CocoFolder | None:
    """The folder with both splits, None where no place has it."""
    for found in map(CocoFolder, folders(data_dir, FOLDER)):
        if all(found.annotations(split).is_file() and found.images(split).is_dir() for split in SPLITS):
            return found
    return None


def require(data_dir: Path | None) -> CocoFolder:
    """The folder with both splits.

    Raises:
        MissingInput: it is in none of the places.
    """
    found = find(data_dir)
    if found is None:
        place = data_dir or places(None)[0] / FOLDER
        raise MissingInput(f"COCO 2017 is not in {place}", FIX.format(place))
    return found


def check_whole(split: str, images: int) -> None:
    """Refuse a part of COCO where its whole is asked for.

    Raises:
        MissingInput: another number of images.
    """
    if images != SPLITS[split]:
        raise MissingInput(
            f"the annotations of {split} name {images} images, COCO 2017 has {SPLITS[split]}",
            "fetch annotations_trainval2017.zip again, or prove the path on a part with --profile smoke",
        )
