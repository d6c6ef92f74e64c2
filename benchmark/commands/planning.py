"""What `run`, `plan` and `status` share: suites, selection, data and store from the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmark.data import cityscapes, coco
from benchmark.data.locate import DENSE_STAND_INS, GENERATED, DataSource, resolve
from benchmark.errors import MissingInput
from benchmark.experiment import Plan, Selection, make_plan
from benchmark.manifest import Suite, load, load_all, suite_path
from benchmark.records import Store

# Of data sets that lie in folders of their own
FINDERS: Mapping[str, Callable[[Path | None], object]] = {coco.NAME: coco.find, cityscapes.NAME: cityscapes.find}


def suites_of(arguments: argparse.Namespace) -> list[Suite]:
    """The suites named, or all."""
    names = list(dict.fromkeys(arguments.suites))
    return [load(suite_path(name)) for name in names] if names else load_all()


def store_of(arguments: argparse.Namespace) -> Store:
    """Where records and working states lie, as asked for."""
    return Store(arguments.results_dir.resolve(), arguments.runs_dir.resolve())


def absent_sets(data_dir: Path | None) -> frozenset[str]:
    """Data sets of dense tasks that no usual place has; generated ones stand in for them in smoke runs."""
    return frozenset(name for name in DENSE_STAND_INS if name not in FINDERS or FINDERS[name](data_dir) is None)


def selection_of(arguments: argparse.Namespace, stand_in: bool = False) -> Selection:
    """The part of the suites asked for."""
    return Selection(
        only=tuple(arguments.only),
        seeds=arguments.seeds,
        profile=arguments.profile,
        all_rows=arguments.all_rows,
        stand_in=stand_in,
        absent=absent_sets(arguments.data_dir),
    )


def source_for(suites: list[Suite], arguments: argparse.Namespace, only_planning: bool) -> DataSource | None:
    """The CIFAR-100 at hand, if any suite needs it. A generated set stands in for smoke runs only.

    Planning downloads nothing, and does without the data.

    Raises:
        MissingInput: no data, and the profile is to be compared with something.
    """
    needed = any(cell.setting.data == "cifar100" and not cell.setting.pending for s in suites for cell in s.cells)
    if not needed:
        return None
    smoke_only = all((arguments.profile or suite.file.profile) == "smoke" for suite in suites)
    try:
        return resolve("cifar100", arguments.data_dir, not only_planning, allow_generated=smoke_only)
    except MissingInput as error:
        if not only_planning:
            without = "or prove the path alone, on generated images: --profile smoke"
            raise MissingInput(error.message, f"{error.fix}\n  {without}") from error
        print(f"NOTE: {error.message}", file=sys.stderr)
        return None


def planned(suites: list[Suite], arguments: argparse.Namespace, source: DataSource | None) -> Plan:
    """The deduplicated plan."""
    stand_in = source is not None and source.kind == GENERATED
    return make_plan(suites, selection_of(arguments, stand_in))
