"""Every data set that suites can name: one small file each, found by reading this folder. None imports torch."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from typing import Literal

from benchmark.errors import UsageError, nearest
from benchmark.paper.datasets.entry import DataSet, Layout


def _found() -> dict[str, DataSet]:
    modules = [import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    sets: list[DataSet] = [module.DATA_SET for module in modules if hasattr(module, "DATA_SET")]
    ordered = sorted(sets, key=lambda found: (found.task, found.name))
    return {found.name: found for found in ordered}


DATA_SETS: Mapping[str, DataSet] = _found()

GENERATED, GENERATED_VERSION = DATA_SETS["cifar100"].stand_in.name, DATA_SETS["cifar100"].stand_in.version
# The same for ImageNet: JPEG files in its layout.
GENERATED_FOLDER = DATA_SETS["imagenet"].stand_in.name
USER_FOLDER: Literal["folder"] = "folder"  # any other in ImageNet's layout; the identity is of its files
# By data set: under which names the images that stand in for it are found in records.
STAND_INS: Mapping[str, tuple[str, ...]] = {
    name: tuple(dict.fromkeys((found.stand_in.name, found.stand_in.version))) for name, found in DATA_SETS.items()
}
IMAGE_FOLDERS = tuple(name for name, found in DATA_SETS.items() if found.layout == "image folder")
COUNTED = tuple(name for name, found in DATA_SETS.items() if found.counted)  # on which costs are counted
VERSIONS = {found.stand_in.name: found.stand_in.version for found in DATA_SETS.values()}  # of what stands in


def behind(name: str) -> DataSet | None:
    """Return the data set of this name, or the first that images of this name stand in for. None for a user's own."""
    return DATA_SETS.get(name) or next((DATA_SETS[found] for found, names in STAND_INS.items() if name in names), None)


def layout_of(name: str | None) -> Layout | None:
    """Return the layout of images that go by this name in experiments or records, None for an unknown name."""
    if name == USER_FOLDER:
        return "image folder"
    found = behind(name) if name is not None else None
    return found.layout if found is not None else None


def counted_on(name: str) -> DataSet:
    """Return a data set that costs are counted on.

    Raises:
        UsageError: there is none of this name; the nearest is named.
    """
    if name not in COUNTED:
        raise UsageError(f"no image size is known for {name!r}", nearest(name, COUNTED))
    return DATA_SETS[name]
