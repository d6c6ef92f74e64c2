"""Parsing of the arguments shared by `run`, `plan` and `status`: suites, selection, data folder, results folder."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.api import load_suites
from benchmark.cli import requests
from benchmark.data import finder
from benchmark.data.available import images_for, needed_by
from benchmark.data.locate import DataSource
from benchmark.errors import MissingInput, UsageError
from benchmark.paper.datasets import GENERATED
from benchmark.paper.manifest import companions
from benchmark.paper.suite import Suite
from benchmark.plan.experiment import Plan, Selection, make_plan
from benchmark.records.store import Store, usual_results

if TYPE_CHECKING:
    from benchmark.plan.estimate import Measured


def suites_of(arguments: requests.Suites) -> list[Suite]:
    """Load the named suites, or all. Companion files of `suites/*.yaml`, such as recipes, are left out."""
    names = list(dict.fromkeys(arguments.suites))
    if len(names) > 1:
        names = [name for name in names if Path(name).resolve() not in companions()]
    return load_suites(*names)


def store_of(arguments: requests.Places) -> Store:
    """Return the store with the folders of records and working states that the command line names."""
    return Store(arguments.results_dir.resolve(), arguments.runs_dir.resolve())


USUAL = (Path("results"), Path("runs"))  # the default folders, which do not exist before the first run


def store_to_read(arguments: requests.Places) -> Store:
    """Return the same store for a command that only reads.

    Raises:
        UsageError: a folder that the command line names does not exist.
    """
    for flag, folder in (("--results-dir", arguments.results_dir), ("--runs-dir", arguments.runs_dir)):
        if folder not in USUAL:
            require_folder(folder, flag)
    return store_of(arguments)


def require_folder(folder: Path, flag: str = "--results-dir") -> None:
    """Raise if a folder of records does not exist. Otherwise a mistyped folder would look like an empty one."""
    if not folder.is_dir():
        raise UsageError(f"{flag} {folder}: there is no such folder", f"{flag} DIR with a folder of finished runs")


def record_folders(arguments: requests.Report) -> tuple[Path, ...]:
    """Return the results folders, and the folder of smoke records if it exists.

    Where the work folder has no records, the committed records that come with the program are compared.

    Raises:
        UsageError: a named folder does not exist. An empty report would otherwise overwrite one with content.
    """
    results = arguments.results_dir or [usual_results()]
    for folder in results:
        require_folder(folder)
    smoke = arguments.runs_dir / "records"
    return (*results, *((smoke,) if smoke.is_dir() else ()))


@contextlib.contextmanager
def without_output(quiet: bool) -> Iterator[None]:
    """Suppress standard output if `quiet`, because only one of several processes that train together prints."""
    if not quiet:
        yield
        return
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def selection_of(arguments: requests.Selected, stand_in: bool = False) -> Selection:
    """Return the selection of suite parts that the command line asks for."""
    return Selection(
        only=tuple(arguments.only),
        seeds=arguments.seeds,
        profile=arguments.profile,
        all_rows=arguments.all_rows,
        stand_in=stand_in,
        absent=finder.absent(arguments.data_dir),
        variants=tuple(arguments.variants),
    )


def source_for(suites: list[Suite], arguments: requests.Selected, only_planning: bool) -> DataSource | None:
    """Return the available images, or None if no suite needs any. Generated images are used for smoke runs only.

    Planning downloads nothing; if the images are missing, it prints a note and returns None.

    Raises:
        MissingInput: the images are missing, something is to be trained, and the profile is not smoke.
    """
    smoke_only = all((arguments.profile or suite.file.profile) == "smoke" for suite in suites)
    try:
        return images_for(needed_by(suites), arguments.data_dir, smoke_only, download=not only_planning)
    except MissingInput as error:
        if not only_planning:
            raise MissingInput(error.message, f"{error.fix}\n  {finder.SMOKE}") from error
        print(f"NOTE: {error.message}", file=sys.stderr)
        return None


def planned(suites: list[Suite], arguments: requests.Selected, source: DataSource | None) -> Plan:
    """Return the deduplicated plan of the suites."""
    stand_in = source is not None and source.kind == GENERATED
    return make_plan(suites, selection_of(arguments, stand_in))


ASK_ABOVE_HOURS = 8.0


def print_plan(plan: Plan, missing: Plan, device: str, measured: Measured | None = None) -> float:
    """Print the pending runs and an estimate of their duration. Return the estimate in hours."""
    from benchmark.launch.progress import duration
    from benchmark.plan.estimate import plan_seconds

    seconds = plan_seconds(missing, device.split(":")[0], measured)
    how = " by speeds measured here" if measured is not None else ""
    print(
        f"{len(plan.runs)} runs of {len(plan.experiments)} experiments, {len(plan.runs) - len(missing.runs)} done, "
        f"{len(missing.runs)} pending on {device}: roughly {duration(seconds)}{how}"
    )
    for run in missing.runs:
        print(f"  {run.label}  {run.experiment.identity}")
    reasons: dict[str, int] = {}
    for _, reason in plan.left_out:
        reasons[reason] = reasons.get(reason, 0) + 1
    for reason, count in sorted(reasons.items()):
        print(f"  left out: {count} cells, {reason}")
    return seconds / 3600


def ask(hours: float, arguments: requests.Run) -> None:
    """Ask the user to confirm a run of many hours. Raise if the answer is no."""
    if hours <= ASK_ABOVE_HOURS or arguments.yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"this may take {hours:.0f} hours, and there is no terminal to ask for confirmation",
            "--yes to start anyway; --only and --seeds to run less",
        )
    if input(f"This may take {hours:.0f} hours. Start? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UsageError("not started, as you answered", "--only and --seeds to run less")
