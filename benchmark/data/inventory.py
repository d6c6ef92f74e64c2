"""The state of the suites' data sets for `doctor` and `list data`, as runs find them; no image is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmark.data import cityscapes, coco, find_folder
from benchmark.data.locate import resolve
from benchmark.errors import BenchmarkError, MissingInput
from benchmark.paper.datasets import DATA_SETS

_SMOKE = "or prove the path alone, on generated images: --profile smoke"


@dataclass(frozen=True)
class Entry:
    """One data set and its state on this machine."""

    name: str  # as suites have it
    state: Literal["ok", "generated", "incomplete", "absent"]
    found: str  # what is there, or what is missing where
    where: Path | None = None
    mend: str = ""

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
    return [_entry(name, data_dir) for name in DATA_SETS]


def _entry(name: str, data_dir: Path | None) -> Entry:
    try:
        if name in find_folder.NAMES:
            return _image_folder(name, data_dir)
        return Entry(name, "ok", *_others(name, data_dir))
    except BenchmarkError as error:
        smoke = f", {_SMOKE}" if name in find_folder.NAMES else ""
        return Entry(name, "absent", error.message, mend=" ".join(error.fix.split()) + smoke)
    except OSError as error:
        return Entry(name, "incomplete", f"{error.filename} cannot be read: {error.strerror}", mend="let it be read")


def _image_folder(name: str, data_dir: Path | None) -> Entry:
    folder = find_folder.find(name, data_dir)
    try:
        counted = find_folder.census(name, folder)
    except MissingInput as error:
        return Entry(name, "incomplete", error.message, folder, error.fix)
    if counted.generated:
        return Entry(name, "generated", f"{counted}, all generated: for smoke runs alone", folder, "name the real one")
    return Entry(name, "ok", str(counted), folder)


def _others(name: str, data_dir: Path | None) -> tuple[str, Path | None]:
    if name == "cifar100":
        return "md5 right", resolve(name, data_dir, allow_download=False, allow_generated=False).folder
    if name == coco.NAME:
        return "annotations and images of both splits", coco.require(data_dir).root
    return "images and labels of both splits", cityscapes.require(data_dir).root


# Of data sets that lie in folders of their own
FINDERS: Mapping[str, Callable[[Path | None], object]] = {coco.NAME: coco.find, cityscapes.NAME: cityscapes.find}


def absent_sets(data_dir: Path | None) -> frozenset[str]:
    """Return the data sets with a folder of their own that no usual place has. Smoke runs use generated ones."""
    return frozenset(name for name, find in FINDERS.items() if find(data_dir) is None)
