"""`report --figure`: figures 2 and 7 from finished detection runs."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmark.cli import requests
from benchmark.data import finder
from benchmark.errors import MissingInput
from benchmark.machine.files import write_text
from benchmark.paper.manifest import load, load_all, suite_path
from benchmark.paper.suite import Suite
from benchmark.plan.experiment import Run, Selection, make_plan
from benchmark.records.store import Store

IMAGES = {"2": 4, "7": 12}
QUANTITY = "feature-saliency"


def main(arguments: requests.Report) -> int:
    """Draw one picture for each run. Return the exit code.

    Raises:
        MissingInput: no detection run is finished, or its weights or images are missing.
    """
    suites = _suites(arguments)
    store = Store(
        *(folder.resolve() for folder in ((arguments.results_dir or [Path("results")])[0], arguments.runs_dir))
    )
    done = [run for run in _runs(suites, arguments) if (record := store.read(run)) and record.status == "done"]
    if not done:
        names = " ".join(suite.name for suite in suites)
        profile = f" --profile {arguments.profile}" if arguments.profile else ""
        raise MissingInput(
            f"no detection run of {names} has finished in {store.runs}", f"python -m benchmark run {names}{profile}"
        )

    from benchmark.machine.devices import pick_device
    from benchmark.models import openmmlab
    from benchmark.train.settings import Settings

    openmmlab.prepare()
    settings = Settings(store=store, device=pick_device(arguments.device), data_dir=arguments.data_dir)
    folder = arguments.out or Path("reports")
    for run in done:
        path = folder / f"figure{arguments.figure}-{run.experiment.identity}.svg"
        _draw(run, settings, arguments.images or IMAGES[str(arguments.figure)], path)
        print(f"{run.label}: written to {path}")
    return 0


def _suites(arguments: requests.Report) -> list[Suite]:
    if arguments.suite:
        return [load(suite_path(name)) for name in dict.fromkeys(arguments.suite)]
    wanted = (QUANTITY, arguments.figure)
    return [s for s in load_all() if any((f.quantity, f.number) == wanted for f in s.file.figures)]


def _runs(suites: list[Suite], arguments: requests.Report) -> list[Run]:
    """Return the first repetition of every detection experiment that trains a student."""
    absent = finder.absent(arguments.data_dir)
    plan = make_plan(suites, Selection(profile=arguments.profile, all_rows=True, absent=absent))
    found = [run for run in plan.runs if run.repetition == 0 and run.experiment.task == "detection"]
    return [run for run in found if run.experiment.recipe is not None]


def _draw(run: Run, settings: object, images: int, path: Path) -> None:
    from benchmark.probe.saliency import looked
    from benchmark.report.saliency_figure import picture
    from benchmark.train.settings import Settings

    assert isinstance(settings, Settings)
    rows, notes = looked(run, settings, images)
    for note in notes:
        print(f"NOTE: {note}", file=sys.stderr)
    title = f"{run.experiment.teacher_name} -> {run.experiment.student}, {run.experiment.method.name}"
    write_text(path, picture(rows, title, [f"{run.label}, {run.experiment.identity}", *notes]))
