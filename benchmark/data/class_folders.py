"""A folder for each class, as ImageNet has: checked for completeness without torch. No image is opened."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.data.imagenet100 import CMC
from benchmark.errors import MissingInput
from benchmark.paper.datasets import DATA_SETS, IMAGE_FOLDERS
from benchmark.paper.datasets.imagenet import ARRANGE

TRAIN, VALIDATION = "train", "val"
MARKER = "GENERATED-NOT-IMAGENET.json"  # lies in a folder whose images were generated
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"))  # torchvision's

FIRST = "first-100"  # the first hundred classes in sorted order
CLASS_LISTS = ("cmc", FIRST)

SHOWN = 5  # problems of one kind that an error names


@dataclass(frozen=True)
class Census:
    """The numbers of images and classes that a run would find in a folder."""

    classes: int
    train: int
    validation: int
    generated: bool

    def __str__(self) -> str:
        return f"{self.classes:,} classes, {self.train:,} training and {self.validation:,} validation images"


def layout(root: Path) -> str:
    """Return instructions for arranging a folder, for error messages."""
    return ARRANGE.format(root)


def census(name: str, root: Path) -> Census:
    """Count a folder's images by their file names, for the classes that a run on `name` takes.

    Raises:
        MissingInput: the folder is not laid out right, or holds only a part.
    """
    generated = (root / MARKER).is_file()
    found = class_folders(root, TRAIN)
    check_same_classes(root, found, class_folders(root, VALIDATION))
    taken = usual_classes(name, generated) or found
    require_classes(root / TRAIN, found, taken)
    train, validation = (
        sum(is_image(entry.name) for label in taken for entry in os.scandir(root / split / label))
        for split in (TRAIN, VALIDATION)
    )
    if not generated:
        check_whole(name, root, len(taken), train, validation)
    return Census(len(taken), train, validation, generated)


def is_image(name: str) -> bool:
    """Return True if a file name counts as an image."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 - a million times


def usual_classes(name: str, generated: bool) -> Sequence[str] | None:
    """Return the classes that a run takes by default. None means all classes in the folder."""
    return CMC if name == "imagenet100" and not generated else None


def class_folders(root: Path, split: str) -> list[str]:
    """List the class names of a split, sorted.

    Raises:
        MissingInput: there are none; the error says what is there instead.
    """
    folder = root / split
    if not folder.is_dir():
        looks_like_split = root.name in (TRAIN, VALIDATION)
        hint = f"name its parent, {root.parent}" if looks_like_split else layout(root)
        raise MissingInput(f"{root} has no folder {split}/", hint)
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    classes = sorted(entry.name for entry in entries if entry.is_dir())
    if classes:
        return classes
    files = sorted(entry.name for entry in entries)
    what = f"{len(files)} files and no class folder, {files[0]} among them" if files else "nothing"
    if any(name.endswith(".tar") for name in files):
        fix = (
            f"cd {shlex.quote(str(folder))} && for t in *.tar; do mkdir ${{t%.tar}} && tar -xf $t -C ${{t%.tar}}; done"
        )
    else:
        fix = layout(root)
    raise MissingInput(f"{folder} holds {what}", fix)


def check_same_classes(root: Path, train: Sequence[str], test: Sequence[str]) -> None:
    """Raise if the splits have different classes: their label numbers would not mean the same."""
    for one, other, there, missing in ((train, test, TRAIN, VALIDATION), (test, train, VALIDATION, TRAIN)):
        absent = sorted(set(one) - set(other))
        if absent:
            raise MissingInput(
                f"{root}: {len(absent)} classes of {there}/ are not in {missing}/: {_some(absent)}",
                layout(root),
            )


def require_classes(folder: Path, found: Iterable[str], wanted: Sequence[str]) -> None:
    """Raise if a split lacks one of the wanted classes."""
    absent = sorted(set(wanted) - set(found))
    if absent:
        raise MissingInput(
            f"{folder} lacks {len(absent)} of the {len(wanted)} classes asked for: {_some(absent)}",
            f"add their folders, or choose other classes: {', '.join(CLASS_LISTS)}, or a file with one name a line",
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def check_whole(name: str, root: Path, classes: int, train: int, validation: int) -> None:
    """Raise if a data set's counts differ from the published ones: a half-copied folder is never used as whole."""
    if name not in IMAGE_FOLDERS:
        return
    known = DATA_SETS[name]
    assert known.on_disk is not None
    published = {split: files.images for split, files in known.on_disk.splits.items()}
    counted = [
        (classes, "classes", known.classes),
        (train, "training images", published[TRAIN]),
        (validation, "validation images", published[VALIDATION]),
    ]
    wrong = [f"{found:,} {what}, not {right:,}" for found, what, right in counted if right and found != right]
    if wrong:
        raise MissingInput(f"{root} is not the whole of {name}: {'; '.join(wrong)}", known.on_disk.fix.format(root))
