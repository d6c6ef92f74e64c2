"""A folder of images in the ImageFolder layout: found, checked and listed once for all runs.

The layout is `train/CLASS/IMAGE` and `val/CLASS/IMAGE`; classes are numbered in the sorted order of their folders'
names, as torchvision's ImageFolder does. ImageNet-100 is a folder of its own, or 100 classes of an ImageNet folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.data.cifar import balanced
from benchmark.data.class_folders import (
    CLASS_LISTS,
    FIRST,
    MARKER,
    SHOWN,
    SUFFIXES,
    TRAIN,
    VALIDATION,
    check_same_classes,
    check_whole,
    class_folders,
    is_image,
    require_classes,
    usual_classes,
)
from benchmark.data.imagenet100 import CMC
from benchmark.errors import BenchmarkError, MissingInput, StorageError, UsageError
from benchmark.machine.files import write_atomically

_LISTING_VERSION = 1


@dataclass(frozen=True)
class Listing:
    """The images of one split: paths under `folder` (N, UTF-8), sizes in bytes (N) and labels (N)."""

    folder: Path
    names: NDArray[np.bytes_]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, position: int) -> str:
        """Return the path of the image at a position."""
        return f"{self.folder}/{bytes(self.names[position]).decode()}"

    def take(self, positions: NDArray[np.int64]) -> Listing:
        """Return a part of the images, in the given order of positions."""
        return replace(self, names=self.names[positions], sizes=self.sizes[positions], labels=self.labels[positions])

    @property
    def sha256(self) -> str:
        """Return the sha256 hash of names, sizes and labels. No pixels are read."""
        digest = hashlib.sha256(b"\0".join(self.names.tolist()))
        for array in (self.sizes, self.labels):
            digest.update(array.astype("<i8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class ImageFolder:
    """An image folder: its training and test splits, its classes and its identity."""

    name: str
    classes: tuple[str, ...]  # names of the class folders, in the order of their labels
    train: Listing
    test: Listing
    identity: Mapping[str, str | int | None]  # everything that decides the images; plain JSON
    generated: bool

    @property
    def note(self) -> str:
        """Return the warning line that every output must carry, or an empty string if the images are real."""
        return f"generated images, not {self.name}: figures show that the path works, no more" if self.generated else ""


def load(
    name: str,
    root: Path,
    *,
    classes: str | Path | None = None,
    subset_train: int | None = None,
    subset_test: int | None = None,
    subset_seed: int = 0,
    holdout: int = 0,
    cache: Path | None = None,
) -> ImageFolder:
    """List a folder's images, or those of some classes, or class-balanced subsets of them.

    Args:
        name: data set name. `imagenet` and `imagenet100` must have their published numbers of classes and images;
            any other name accepts what is there.
        root: the folder with `train/` and `val/`.
        classes: `cmc`, `first-100`, or a file with one folder name a line. None takes all classes, except for
            imagenet100: there None takes the classes of CMC, which most work with an ImageNet-100 uses.
        subset_train: number of training images, drawn by `subset_seed`; None takes all.
        subset_test: number of test images (from `val/`), drawn by `subset_seed`; None takes all.
        subset_seed: seed of the subsets.
        holdout: number of training images that become the test split and leave the training split.
        cache: a folder for the listings; the user's cache folder if None.
    """
    root = root.expanduser().resolve()
    generated = (root / MARKER).is_file()
    chosen = _class_list(name, classes, generated)
    cache = cache or _cache()
    train, found = _listed(root, TRAIN, cache)
    test, found_test = _listed(root, VALIDATION, cache)
    check_same_classes(root, found, found_test)
    if chosen == FIRST:
        names: Sequence[str] = found[:100]
    else:
        names = found if chosen is None else sorted(chosen)
    if tuple(names) != tuple(found):
        train, test = _of_classes(train, found, names), _of_classes(test, found, names)
    if not generated:
        check_whole(name, root, len(names), len(train), len(test))
    whole = {"train_files_sha256": train.sha256, "val_files_sha256": test.sha256}
    if holdout:
        held = _positions(train, holdout, subset_seed, len(names))
        train, test = train.take(np.setdiff1d(np.arange(len(train)), held)), train.take(held)
    sizes = {"subset_train": _size(subset_train, train), "subset_test": _size(subset_test, test)}
    subset = bool(holdout) or any(size is not None for size in sizes.values())
    return ImageFolder(
        name=name,
        classes=tuple(names),
        train=_subset(train, sizes["subset_train"], subset_seed, len(names)),
        test=_subset(test, sizes["subset_test"], subset_seed, len(names)),
        identity={
            "name": "generated-imagefolder" if generated else name,
            "classes": len(names),
            "classes_sha256": hashlib.sha256("\n".join(names).encode()).hexdigest(),
            **whole,
            **sizes,
            "holdout": holdout,
            "seed": subset_seed if subset else None,  # a seed that chose nothing is no part of what the data are
        },
        generated=generated,
    )


def _class_list(name: str, classes: str | Path | None, generated: bool) -> Sequence[str] | str | None:
    if classes is None:
        return usual_classes(name, generated)
    if classes == "cmc":
        return CMC
    if classes == FIRST:
        return FIRST
    path = Path(classes)
    if not path.is_file():
        raise UsageError(f"no class list {str(classes)!r}", f"name a file, or one of: {', '.join(CLASS_LISTS)}")
    names = path.read_text().split()
    if len(names) < 2 or len(set(names)) != len(names):
        raise UsageError(f"{path}: {len(names)} classes, {len(set(names))} of them different", "list each class once")
    return names


def _listed(root: Path, split: str, cache: Path) -> tuple[Listing, list[str]]:
    """Return a split's images and classes, from the cache if no folder has changed since."""
    folder = root / split
    classes = class_folders(root, split)
    stamp = _stamp(folder, classes)
    cached = cache / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}.npz"
    arrays = _remembered(cached, stamp)
    if arrays is None:
        arrays = _scan(folder, classes)
        with contextlib.suppress(StorageError):  # listing anew costs minutes, not the run
            _remember(cached, stamp, arrays)
    return Listing(folder, *arrays), classes


_Arrays = tuple[NDArray[np.bytes_], NDArray[np.int64], NDArray[np.int64]]


def _stamp(folder: Path, classes: Iterable[str]) -> str:
    """Return a hash that changes when a file is added to, or removed from, any class folder."""
    times = [(name, (folder / name).stat().st_mtime_ns) for name in classes]
    text = json.dumps([_LISTING_VERSION, str(folder), times])
    return hashlib.sha256(text.encode()).hexdigest()


def _remembered(cached: Path, stamp: str) -> _Arrays | None:
    # Whatever is wrong with a cached file, listing again fixes it.
    with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile), np.load(cached) as file:
        if str(file["stamp"]) == stamp:
            return file["names"], file["sizes"], file["labels"]
    return None


def _remember(cached: Path, stamp: str, arrays: _Arrays) -> None:
    names, sizes, labels = arrays
    write_atomically(
        cached, lambda file: np.savez(file, stamp=np.array(stamp), names=names, sizes=sizes, labels=labels)
    )


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "diffkd-benchmark"


def _scan(folder: Path, classes: Sequence[str]) -> _Arrays:
    names: list[bytes] = []
    sizes: list[int] = []
    labels: list[int] = []
    problems: list[str] = []
    for label, name in enumerate(classes):
        before = len(names)
        for file, size in _images(folder / name, problems):
            names.append(f"{name}/{file}".encode())
            sizes.append(size)
            labels.append(label)
        if len(names) == before and not problems:
            problems.append(f"{folder / name}: no image in this class (looked for {', '.join(sorted(SUFFIXES))})")
    _refuse(problems, "restore these from the archives, or remove the class from both splits")
    return np.array(names), np.array(sizes, np.int64), np.array(labels, np.int64)


def _images(folder: Path, problems: list[str]) -> Iterator[tuple[str, int]]:
    """Yield names and sizes (bytes) of a class's images, sorted. Unreadable and empty files are added to `problems`."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if not is_image(entry.name):
            continue
        try:
            size = entry.stat().st_size
        except OSError as error:
            problems.append(f"{entry.path}: {error.strerror}")
            continue
        if size == 0:
            problems.append(f"{entry.path}: empty file")
        yield entry.name, size


def _refuse(problems: Sequence[str], fix: str) -> None:
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise MissingInput("\n  ".join(["not all images can be used:", *problems[:SHOWN], *more]), fix)


def _of_classes(listing: Listing, found: Sequence[str], wanted: Sequence[str]) -> Listing:
    """Return the images of the wanted classes, with labels renumbered from 0."""
    require_classes(listing.folder, found, wanted)
    renumbered = np.full(len(found), -1, np.int64)
    renumbered[[found.index(name) for name in wanted]] = np.arange(len(wanted))
    labels = renumbered[listing.labels]
    kept = np.flatnonzero(labels >= 0)
    return replace(listing.take(kept), labels=labels[kept])


def _size(asked: int | None, listing: Listing) -> int | None:
    """Return a subset's size, or None if the subset is the whole split, so that the whole has one identity."""
    if asked is not None and not 0 < asked <= len(listing):
        raise UsageError(f"cannot take a subset of {asked} from {len(listing)} images", f"ask for 1 to {len(listing)}")
    return None if asked == len(listing) else asked


def _positions(listing: Listing, size: int, seed: int, classes: int) -> NDArray[np.int64]:
    if not 0 < size < len(listing):
        raise BenchmarkError(f"cannot hold out {size} of {len(listing)} training images", "take fewer")
    return balanced(listing.labels, size, seed, classes)


def _subset(listing: Listing, size: int | None, seed: int, classes: int) -> Listing:
    return listing if size is None else listing.take(balanced(listing.labels, size, seed, classes))
