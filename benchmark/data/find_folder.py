"""Where ImageNet and ImageNet-100 lie, without importing torch or reading an image."""

from __future__ import annotations

import os
from pathlib import Path

from benchmark.data.locate import DEFAULT, ENVIRONMENT
from benchmark.errors import MissingInput, UsageError, nearest

NAMES = ("imagenet", "imagenet100")
TRAIN, VALIDATION = "train", "val"
MARKER = "GENERATED-NOT-IMAGENET.json"  # lies in a folder whose images were generated


def find(name: str, data_dir: Path | None) -> Path:
    """The folder with `train/` and `val/` for `imagenet` or `imagenet100`.

    Looked for in `data_dir`, else in $BENCHMARK_DATA and `data/`: the place itself, or a folder of the data set's name
    in it. For ImageNet-100 a whole ImageNet serves.

    Raises:
        MissingInput: no place has it.
    """
    if name not in NAMES:
        raise UsageError(f"unknown data set {name!r}", nearest(name, NAMES))
    under = ("imagenet100", "imagenet") if name == "imagenet100" else ("imagenet",)
    named = os.environ.get(ENVIRONMENT)
    places = [data_dir] if data_dir else [*([Path(named)] if named else []), DEFAULT]
    for place in (place.expanduser() for place in places):
        for folder in (place, *(place / folder for folder in under)):
            if (folder / TRAIN).is_dir() or (folder / VALIDATION).is_dir():
                return folder
    raise MissingInput(
        f"{name} is not in {' or '.join(map(str, places))}", layout(places[0].expanduser() / under[-1], "make")
    )


def absent(data_dir: Path | None) -> frozenset[str]:
    """Which of the two no place has."""
    found = set()
    for name in NAMES:
        try:
            find(name, data_dir)
        except MissingInput:
            found.add(name)
    return frozenset(found)


def layout(root: Path, verb: str) -> str:
    """How to lay a folder out, for error messages."""
    return (
        f"{verb} {root}/{TRAIN}/CLASS/IMAGE.JPEG and {root}/{VALIDATION}/CLASS/IMAGE.JPEG, CLASS being the wnid, such "
        f"as n01440764, in both; the archives come from https://image-net.org/download; or name a folder laid out so"
    )
