"""CIFAR-100 and its stand-in as tensors: whole, as balanced subsets, or with a part of the training set held out."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.data import generated
from benchmark.data.locate import DataSource, md5_of, mismatch
from benchmark.errors import BenchmarkError, UsageError
from benchmark.paper.datasets import GENERATED_VERSION

CLASSES = 100

_Pool = tuple[NDArray[np.uint8], NDArray[np.int64]]  # images N,3,32,32 and labels N


@dataclass(frozen=True)
class Split:
    """The images N,3,32,32 uint8 and labels N int64 of one split, on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Split:
        """Return this split on a device, where it stays for the whole run."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """A data set: its training and test splits, its name and its identity."""

    train: Split
    test: Split
    name: str
    identity: Mapping[str, str | int | None]  # everything that decides the images; plain JSON
    generated: bool
    classes: int = CLASSES
    class_names: tuple[str, ...] = ()  # generated classes have none


def load(
    source: DataSource, subset_train: int | None, subset_test: int | None, subset_seed: int, holdout: int = 0
) -> Dataset:
    """Read a data source. A size of None takes the whole split; a number takes a class-balanced subset, drawn by seed.

    With `holdout`, that many training images are the test split and no longer in the training split, so that a
    setting can be chosen without looking at the test images.
    """
    train, test, origin = _generated() if source.folder is None else _official(source.folder, source.md5s)
    if holdout:
        if not 0 < holdout < len(train[1]):
            raise UsageError(f"cannot hold out {holdout} of {len(train[1])} training images", "take fewer")
        held = balanced(train[1], holdout, subset_seed)
        kept = np.setdiff1d(np.arange(len(train[1])), held, assume_unique=True)
        train, test = _take(train, kept), _take(train, held)
    sizes = {"subset_train": _size(subset_train, train), "subset_test": _size(subset_test, test)}
    chosen = bool(holdout) or any(size is not None for size in sizes.values())
    return Dataset(
        train=_split(train, sizes["subset_train"], subset_seed),
        test=_split(test, sizes["subset_test"], subset_seed),
        name=source.kind,
        # A seed that chose nothing is no part of what the data are.
        identity={"name": source.kind, **origin, **sizes, "holdout": holdout, "seed": subset_seed if chosen else None},
        generated=source.kind == "generated",
        class_names=_class_names(source),
    )


def balanced(labels: NDArray[np.int64], size: int, seed: int, classes: int = CLASSES) -> NDArray[np.int64]:
    """Return the sorted positions of a balanced subset: class counts differ by one at most.

    A smaller subset lies inside a larger one. The order comes from the raw stream of the bit generator: numpy promises
    that stream for ever, but not its permutations.
    """
    bits = np.random.PCG64(seed)
    image_keys, class_keys = bits.random_raw(len(labels)), bits.random_raw(classes)
    by_class = np.lexsort((image_keys, labels))
    counts = np.bincount(labels, minlength=classes)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)  # place within its class
    in_turn = np.lexsort((class_keys[labels[by_class]], rank))
    return np.sort(by_class[in_turn[:size]])


def _official(folder: Path, md5s: Mapping[str, str]) -> tuple[_Pool, _Pool, dict[str, str]]:
    return _read(folder / "train", md5s["train"]), _read(folder / "test", md5s["test"]), dict(md5s)


def _read(path: Path, md5: str) -> _Pool:
    entry = _unpickled(path, md5)
    return entry["data"].reshape(-1, 3, 32, 32), np.array(entry["fine_labels"], dtype=np.int64)


def _class_names(source: DataSource) -> tuple[str, ...]:
    return (
        ()
        if source.folder is None
        else tuple(_unpickled(source.folder / "meta", source.md5s["meta"])["fine_label_names"])
    )


def _unpickled(path: Path, md5: str) -> dict[str, Any]:
    content = path.read_bytes()
    if (found := md5_of(content)) != md5:
        raise mismatch(path, found, md5)
    # A pickle can run code. These very bytes have just been verified as the official file's, which runs none.
    entry: dict[str, Any] = pickle.loads(content, encoding="latin1")
    return entry


def _generated() -> tuple[_Pool, _Pool, dict[str, str]]:
    made = generated.generate()
    if made.sha256 != generated.SHA256:
        raise BenchmarkError(
            f"{GENERATED_VERSION} came out as sha256 {made.sha256}, expected {generated.SHA256}: "
            "this numpy draws or computes other images",
            "pip install --upgrade numpy, and report both version and processor",
        )
    origin = {"version": GENERATED_VERSION, "sha256": made.sha256}
    return (made.train_images, made.train_labels), (made.test_images, made.test_labels), origin


def _size(asked: int | None, pool: _Pool) -> int | None:
    """Return a subset's size, or None if the subset is the whole split, so that the whole has one identity."""
    available = len(pool[1])
    if asked is not None and not 0 < asked <= available:
        raise UsageError(f"cannot take a subset of {asked} from {available} images", f"ask for 1 to {available}")
    return None if asked == available else asked


def _take(pool: _Pool, positions: NDArray[np.int64]) -> _Pool:
    return pool[0][positions], pool[1][positions]


def _split(pool: _Pool, size: int | None, seed: int) -> Split:
    images, labels = pool if size is None else _take(pool, balanced(pool[1], size, seed))
    # torch.tensor copies: the arrays may be views of the file's own bytes.
    return Split(torch.tensor(images), torch.tensor(labels))
