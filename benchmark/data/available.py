"""The images that a plan can have here: the real ones, or for smoke runs alone the generated ones that stand in."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from benchmark.data import class_folders, finder
from benchmark.data.locate import DataSource, resolve
from benchmark.errors import MissingInput
from benchmark.paper.datasets import DATA_SETS, GENERATED, IMAGE_FOLDERS
from benchmark.paper.suite import Suite


def images_for(
    needed: Collection[str], data_dir: Path | None, stand_ins: bool, download: bool = True
) -> DataSource | None:
    """Return the available images of the data sets that are needed, or None if none is.

    Raises:
        MissingInput: there is no data, and nothing may stand in for it.
    """
    found: DataSource | None = None
    for name in ("cifar100", GENERATED):
        if name in needed:
            found = resolve(name, data_dir, download, allow_generated=stand_ins)
    folders = _folders(needed, data_dir, stand_ins)
    if found is None or folders is None:
        return found or folders
    notes = [source.note for source in (found, folders) if source.note]
    return replace(found, data_dir=folders.data_dir, note="; ".join(notes))


def needed_by(suites: Iterable[Suite]) -> set[str]:
    """Return the names of the data sets that some suites' cells are measured on."""
    return {str(cell.setting.data) for suite in suites for cell in suite.cells if not cell.setting.pending}


def _folders(needed: Collection[str], data_dir: Path | None, stand_ins: bool) -> DataSource | None:
    """Return the available image folders, or None if none is needed."""
    wanted = sorted(set(IMAGE_FOLDERS).intersection(needed))
    missing = sorted(finder.absent(data_dir).intersection(wanted))
    if missing and not stand_ins:
        finder.require(DATA_SETS[missing[0]], data_dir)  # raises, and says where it looked
    for name in set(wanted).difference(missing):
        place = finder.require(DATA_SETS[name], data_dir)
        if (place / class_folders.MARKER).is_file() and not stand_ins:
            raise MissingInput(f"{place} holds generated images, not {name}", "name the real one with --data-dir")
    if not wanted:
        return None
    titles = " and ".join(DATA_SETS[name].title for name in missing)
    note = (
        f"{titles} not found: generated images stand in, teachers are randomly initialised, "
        f"figures say nothing about {titles}"
    )
    return DataSource("folder", note=note if missing else "", data_dir=data_dir)
