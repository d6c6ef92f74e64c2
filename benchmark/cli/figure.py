"""`report --figure`: figures 4 and 5 from records; 2, 6 and 7 by the networks of finished runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmark.cli import requests
from benchmark.cli.planning import record_folders
from benchmark.data import finder
from benchmark.data.available import images_for, needed_by
from benchmark.errors import MissingInput, UsageError
from benchmark.machine.files import write_text
from benchmark.paper.manifest import load, load_all, suite_files, suite_path
from benchmark.paper.suite import Cell, Suite, figure_number
from benchmark.plan.experiment import Run, Selection, make_plan
from benchmark.records.store import Store, usual_results

if TYPE_CHECKING:
    from benchmark.train.settings import Settings

IMAGES = {"2": 4, "6": 4, "7": 12}  # test images that are looked at


class Drawn(NamedTuple):
    """A figure as text, the name of its file, and what it is drawn of."""

    name: str
    text: str
    of: str


def main(arguments: requests.Report) -> int:
    """Draw the figure for each suite that has finished runs for it. Return the exit code.

    Raises:
        MissingInput: no run is finished, or its weights or images are missing.
        UsageError: a named suite does not declare the figure.
    """
    draw = {"4": _from_records, "5": _from_records, "6": _scores}.get(arguments.figure, _saliency)
    folder = arguments.out or Path("reports")
    without = []
    suites = _suites(arguments)
    for suite in suites:
        drawn = list(draw(suite, arguments))
        for name, text, of in drawn:
            path = folder / f"{name}.svg"
            write_text(path, text)
            print(f"{of}: written to {path}")
        # A suite of the user's own is found by its path alone.
        without += [] if drawn else [suite.name if suite.path in suite_files() else str(suite.path)]
    profile = f" --profile {arguments.profile}" if arguments.profile else ""
    if len(without) == len(suites):
        names = " ".join(without)
        message = f"no run of {names} has finished from which figure {arguments.figure} can be drawn"
        raise MissingInput(message, f"python -m benchmark run {names}{profile}")
    for name in without:
        print(f"NOTE: {name} has no finished run: python -m benchmark run {name}{profile}", file=sys.stderr)
    return 0


def _suites(arguments: requests.Report) -> list[Suite]:
    """Return the named suites, or all that declare the figure. Features can be drawn of any suite's detectors."""
    number = arguments.figure
    if not arguments.suite:
        return [suite for suite in load_all() if _declares(suite, number)]
    suites = [load(suite_path(name)) for name in dict.fromkeys(arguments.suite)]
    for suite in suites:
        if number in ("4", "5", "6") and not _declares(suite, number):
            able = " ".join(other.name for other in load_all() if _declares(other, number))
            raise UsageError(f"{suite.path} declares no figure {number}", f"name one that does: {able}")
    return suites


def _declares(suite: Suite, number: str) -> bool:
    return any(figure_number(figure.number) == number for figure in suite.file.figures)


def _from_records(suite: Suite, arguments: requests.Report) -> Iterator[Drawn]:
    from benchmark.judge.compare import Sources, compare
    from benchmark.records.dataframe import frame_of
    from benchmark.report.listing import listed
    from benchmark.report.paper_figures import paper_figures

    comparison = compare(Sources(folders=record_folders(arguments), only=(str(suite.path),), profile=arguments.profile))
    runs = listed(frame_of(comparison.runs.values()))
    for table in comparison.tables:
        for figure in paper_figures(table, runs):
            if figure.number == arguments.figure:
                yield Drawn(figure.name, figure.sheet.file(), suite.name)


def _scores(suite: Suite, arguments: requests.Report) -> Iterator[Drawn]:
    profile = arguments.profile or suite.file.profile
    rows = {f.row for f in suite.file.figures if figure_number(f.number) == arguments.figure} - {None}
    found = [
        (run, cell)
        for run, cell in _finished(suite, arguments, "classification")
        if (cell.row in rows if rows else cell.setting.method != "none")
    ]
    if not found:
        return
    from benchmark.probe.scores import scored
    from benchmark.report.paper_figures import said_of
    from benchmark.report.scores_figure import scores_sheet

    source = images_for(needed_by([suite]), arguments.data_dir, profile == "smoke", download=False)
    settings = replace(_settings(arguments), source=source)
    for run, cell in found:
        images = scored(run, settings, arguments.images or IMAGES[arguments.figure])
        said = said_of(suite.file.title, profile, f"{run.label}, row {cell.row}. Classes: the teacher's first three.")
        sheet = scores_sheet(arguments.figure, images, said)
        yield Drawn(f"figure{arguments.figure}-{run.experiment.identity}", sheet.file(), run.label)


def _saliency(suite: Suite, arguments: requests.Report) -> Iterator[Drawn]:
    found = _finished(suite, arguments, "detection")
    if not found:
        return
    from benchmark.models import openmmlab
    from benchmark.probe.saliency import looked
    from benchmark.report.saliency_figure import picture

    openmmlab.prepare()
    settings = _settings(arguments)
    for run, _ in found:
        rows, notes = looked(run, settings, arguments.images or IMAGES[arguments.figure])
        for note in notes:
            print(f"NOTE: {note}", file=sys.stderr)
        experiment = run.experiment
        title = f"{experiment.teacher_name} -> {experiment.student}, {experiment.method.name}"
        text = picture(rows, title, [f"{run.label}, {experiment.identity}", *notes])
        yield Drawn(f"figure{arguments.figure}-{experiment.identity}", text, run.label)


def _finished(suite: Suite, arguments: requests.Report, task: str) -> list[tuple[Run, Cell]]:
    """Return the first repetition of each finished experiment that trains a student, and its first cell."""
    store, absent = _store(arguments), finder.absent(arguments.data_dir)
    found: dict[str, tuple[Run, Cell]] = {}
    for stand_in in (False, True):  # generated images may have stood in for CIFAR-100
        plan = make_plan([suite], Selection(profile=arguments.profile, all_rows=True, stand_in=stand_in, absent=absent))
        for run in plan.runs:
            experiment, record = run.experiment, store.read(run)
            wanted = run.repetition == 0 and experiment.task == task and experiment.recipe is not None
            if wanted and experiment.identity in plan.cells and record is not None and record.status == "done":
                found[experiment.identity] = run, plan.cells[experiment.identity][0]
    return list(found.values())


def _store(arguments: requests.Report) -> Store:
    results = (arguments.results_dir or [usual_results()])[0]
    return Store(results.resolve(), arguments.runs_dir.resolve())


def _settings(arguments: requests.Report) -> Settings:
    from benchmark.machine.devices import pick_device
    from benchmark.train.settings import Settings

    return Settings(store=_store(arguments), device=pick_device(arguments.device), data_dir=arguments.data_dir)
