"""Functions for notebooks and other programs: load suites, make plans, run and compare, without the command line."""

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
from benchmark.records.store import Store, usual_results

if TYPE_CHECKING:
    import pandas

    from benchmark.judge.views import Comparison, Mode
    from benchmark.launch.local import PlanOutcome


def load_suites(*names: str | Path) -> list[Suite]:
    """Load suites by name (`"table9"`) or file. Without a name, load all suites that come with the program.

    Raises:
        UsageError: there is no such suite, or a manifest has mistakes. The error lists all mistakes of the manifest.
    """
    return [load(suite_path(str(name))) for name in names] if names else load_all()


def make_plan(
    suites: Iterable[Suite],
    *,
    only: Sequence[str] = (),
    seeds: int | None = None,
    profile: ProfileName | None = None,
    all_rows: bool = False,
    variants: Sequence[str] = (),
    data_dir: str | Path | None = None,
) -> Plan:
    """Return the plan of everything that the suites would train: each run once, teachers first.

    Args:
        suites: suites from `load_suites`.
        only: patterns of rows, columns, methods, students or teacher-student pairs, as for `--only`; none takes all.
        seeds: number of repetitions, instead of the number that each suite declares.
        profile: `paper`, `mini` or `smoke`, instead of each suite's own.
        all_rows: True to include the rows that the paper copied from other papers.
        variants: readings of what sources leave open that are run instead of the suites' main ones.
        data_dir: folder of the data sets, instead of `$BENCHMARK_DATA` and `data/`.
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
            variants=tuple(variants),
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
    """Train the missing runs of a plan in this process, and return the outcome of every run.

    Finished runs are not repeated. Interrupted runs resume from their checkpoints.

    Args:
        plan: a plan from `make_plan`.
        results: folder of records. Records of smoke runs are written to `records` in the folder `runs`.
        runs: folder of checkpoints and logs.
        data_dir: the same folder as for `make_plan`.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        threads: number of CPU threads, which results on a CPU depend on; all cores by default.

    Raises:
        MissingInput: data or weights are missing.
    """
    from benchmark.launch.local import Local
    from benchmark.machine.devices import pick_device
    from benchmark.train.settings import Request, Settings

    folder = _path(data_dir)
    settings = Settings(
        store=Store(Path(results).resolve(), Path(runs).resolve()),
        device=pick_device(device),
        threads=threads,
        request=Request.of(plan, ()),
        asked={"device": device},
        source=images_for({run.experiment.data.name for run in plan.runs}, folder, stand_ins=False),
        data_dir=folder,
    )
    return Local(settings).execute(plan)


def compare(*folders: str | Path, suites: Sequence[str] = (), mode: Mode = "paper") -> Comparison:
    """Judge records against published numbers.

    Args:
        folders: folders of records, one or more for each machine; by default the records that come with the program.
        suites: names or files of suites; by default all.
        mode: compare with the `paper`, with other people's `reruns`, or with `all` of these numbers.
    """
    from benchmark.judge.compare import Sources
    from benchmark.judge.compare import compare as judged

    return judged(Sources(tuple(map(Path, folders)) or (usual_results(),), mode, tuple(suites)))


def cells(comparison: Comparison) -> pandas.DataFrame:
    """Return the cells of a comparison as a table: the published number, the measured number, and the verdict."""
    import io

    import pandas

    from benchmark.report.cells_csv import cells_csv

    return pandas.read_csv(io.StringIO(cells_csv(comparison)))


def _path(folder: str | Path | None) -> Path | None:
    return None if folder is None else Path(folder)
