"""What a notebook or a program of one's own can use: suites, plans, runs and comparisons without the command line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.data import finder
from benchmark.data.available import images_for, needed_by
from benchmark.paper.datasets import GENERATED
from benchmark.paper.manifest import load, load_all, suite_path
from benchmark.paper.suite import ProfileName, Suite
from benchmark.plan import experiment
from benchmark.plan.experiment import Plan, Selection
from benchmark.records.store import Store

if TYPE_CHECKING:
    import pandas

    from benchmark.judge.views import Comparison, Mode
    from benchmark.launch.local import PlanOutcome


def load_suites(*names: str | Path) -> list[Suite]:
    """Load suites by name (`"table9"`) or file, or all that come with the program if none is named.

    Raises:
        UsageError: there is no such suite, or a manifest has mistakes; all of them are told at once.
    """
    return [load(suite_path(str(name))) for name in names] if names else load_all()


def make_plan(
    suites: Iterable[Suite],
    *,
    only: Sequence[str] = (),
    seeds: int | None = None,
    profile: ProfileName | None = None,
    all_rows: bool = False,
    data_dir: str | Path | None = None,
) -> Plan:
    """Return what running the suites would train: every run once, teachers first.

    Args:
        suites: from `load_suites`.
        only: patterns of rows, columns, methods, students or teacher-student pairs, as `--only` takes them.
        seeds: repetitions, instead of the declared number.
        profile: `paper`, `mini` or `smoke`, instead of each suite's own.
        all_rows: rows that the paper copied from others too.
        data_dir: the folder of the data sets, instead of `$BENCHMARK_DATA` and `data/`.
    """
    listed, folder = list(suites), _path(data_dir)
    smoke_only = all((profile or suite.file.profile) == "smoke" for suite in listed)
    source = images_for(needed_by(listed), folder, stand_ins=True, download=False) if smoke_only else None
    return experiment.make_plan(
        listed,
        Selection(
            only=tuple(only),
            seeds=seeds,
            profile=profile,
            all_rows=all_rows,
            stand_in=source is not None and source.kind == GENERATED,
            absent=finder.absent(folder),
        ),
    )


def run(
    plan: Plan,
    *,
    results: str | Path = "results",
    runs: str | Path = "runs",
    data_dir: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> PlanOutcome:
    """Train in this process what the plan still lacks, and return what became of every run.

    Finished runs are not repeated, interrupted ones resume.

    Args:
        plan: from `make_plan`.
        results: the folder of records; those of smoke runs are in `runs`/records.
        runs: the folder of checkpoints and logs.
        data_dir: as the plan was made with.
        device: `auto`, `cpu`, `cuda`, `cuda:1`.
        threads: of the CPU; results on a CPU depend on it. All cores unless given.

    Raises:
        MissingInput: data or weights are not there.
    """
    from benchmark.launch.local import Local
    from benchmark.machine.devices import pick_device
    from benchmark.train.settings import Settings

    folder = _path(data_dir)
    settings = Settings(
        store=Store(Path(results).resolve(), Path(runs).resolve()),
        device=pick_device(device),
        threads=threads,
        asked={"device": device},
        source=images_for({run.experiment.data.name for run in plan.runs}, folder, stand_ins=False),
        data_dir=folder,
    )
    return Local(settings).execute(plan)


def compare(*folders: str | Path, suites: Sequence[str] = (), mode: Mode = "paper") -> Comparison:
    """Judge the records in some folders against the published numbers.

    Args:
        folders: of records, from any number of machines; the committed ones unless given.
        suites: by name or file; all of them unless given.
        mode: compare with the `paper`, with `reruns` of others, or with `all`.
    """
    from benchmark.judge.compare import Sources
    from benchmark.judge.compare import compare as judged
    from benchmark.machine.shipped import RESULTS

    return judged(Sources(tuple(map(Path, folders)) or (RESULTS,), mode, tuple(suites)))


def cells(comparison: Comparison) -> pandas.DataFrame:
    """Return the cells of a comparison as a table: what is printed, what was measured, and the verdict."""
    import io

    import pandas

    from benchmark.report.cells_csv import cells_csv

    return pandas.read_csv(io.StringIO(cells_csv(comparison)))


def _path(folder: str | Path | None) -> Path | None:
    return None if folder is None else Path(folder)
