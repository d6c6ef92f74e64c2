"""The state of the suites' data sets for `doctor` and `list data`, as runs find them; no image is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmark.data import cityscapes, class_folders, finder
from benchmark.data.locate import resolve
from benchmark.errors import BenchmarkError, MissingInput
from benchmark.paper.datasets import DATA_SETS
from benchmark.paper.datasets.entry import DataSet, Layout


@dataclass(frozen=True)
class Entry:
    """One data set and its state on this machine."""

    name: str  # as suites have it
    state: Literal["ok", "generated", "incomplete", "absent"]
    found: str  # what is there, or what is missing where
    where: Path | None = None
    fix: str = ""

    @property
    def title(self) -> str:
        """Return the data set's usual name, such as "CIFAR-100"."""
        return DATA_SETS[self.name].title

    @property
    def line(self) -> str:
        """Return the description of what was found, preceded by its folder unless the description names it."""
        named = self.where is None or str(self.where) in self.found
        return self.found if named else f"{self.where}: {self.found}"


def inventory(data_dir: Path | None) -> list[Entry]:
    """Return the state of every data set that a suite can name."""
    return [_entry(known, data_dir) for known in DATA_SETS.values()]


def _entry(known: DataSet, data_dir: Path | None) -> Entry:
    try:
        return _LOOKS[known.layout](known, data_dir)
    except BenchmarkError as error:
        smoke = f", {finder.SMOKE}" if known.on_disk else ""
        return Entry(known.name, "absent", error.message, fix=" ".join(error.fix.split()) + smoke)
    except OSError as error:
        found = f"{error.filename} cannot be read: {error.strerror}"
        return Entry(known.name, "incomplete", found, fix="make it readable")


def _in_memory(known: DataSet, data_dir: Path | None) -> Entry:
    source = resolve(known.name, data_dir, allow_download=False, allow_generated=False)
    return Entry(known.name, "ok", "md5 right", source.folder)


def _image_folder(known: DataSet, data_dir: Path | None) -> Entry:
    folder = finder.require(known, data_dir)
    try:
        counted = class_folders.census(known.name, folder)
    except MissingInput as error:
        return Entry(known.name, "incomplete", error.message, folder, error.fix)
    if counted.generated:
        found = f"{counted}, all generated: for smoke runs alone"
        return Entry(known.name, "generated", found, folder, "name the real one")
    return Entry(known.name, "ok", str(counted), folder)


def _coco(known: DataSet, data_dir: Path | None) -> Entry:
    return Entry(known.name, "ok", "annotations and images of both splits", finder.require(known, data_dir))


def _cityscapes(known: DataSet, data_dir: Path | None) -> Entry:
    folder = cityscapes.require(known, data_dir)
    return Entry(known.name, "ok", "images and labels of both splits", folder.root)


_LOOKS: Mapping[Layout, Callable[[DataSet, Path | None], Entry]] = {
    "memory": _in_memory,
    "image folder": _image_folder,
    "coco": _coco,
    "cityscapes": _cityscapes,
}
