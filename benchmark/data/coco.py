"""COCO 2017, or any set in its layout: `annotations/instances_train2017.json`, `train2017/` and so on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SPLITS = ("train2017", "val2017")


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

    def identity(self, images: Mapping[str, int]) -> dict[str, object]:
        """Return the identity of the data for records: the annotation files' hashes and the numbers of images used."""
        hashes = {split: hashlib.sha256(self.annotations(split).read_bytes()).hexdigest() for split in SPLITS}
        return {f"{split}_annotations_sha256": found for split, found in hashes.items()} | {
            f"{split}_images": count for split, count in images.items()
        }
