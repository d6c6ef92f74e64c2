"""`run`: plan, train what is missing, print the tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmark.cli import requests
from benchmark.cli.output import near
from benchmark.cli.planning import (
    ask,
    planned,
    print_plan,
    selection_of,
    source_for,
    store_of,
    suites_of,
    without_output,
)
from benchmark.data.locate import DataSource
from benchmark.launch.stopping import Flag
from benchmark.machine.devices import pick_device
from benchmark.machine.files import write_text
from benchmark.paper.datasets import GENERATED
from benchmark.paper.suite import Suite
from benchmark.plan.experiment import Run
from benchmark.records.evidence import collect
from benchmark.report.table import suite_table

if TYPE_CHECKING:
    from benchmark.machine.ranks import Ranks


def main(arguments: requests.Run) -> int:
    """Run suites, and return the exit code. Of several processes that torchrun started, only one prints."""
    suites = suites_of(arguments)
    if arguments.launcher is not None:
        return _launched(arguments, suites)

    from benchmark.machine.devices import local_device
    from benchmark.machine.ranks import joined

    device = local_device(pick_device(arguments.device))
    with joined(device) as ranks, without_output(not ranks.leads):
        return _run(arguments, suites, device, ranks)


def _run(arguments: requests.Run, suites: list[Suite], device: str, ranks: Ranks) -> int:
    source = ranks.leader_first(lambda: source_for(suites, arguments, only_planning=arguments.dry_run))
    plan = planned(suites, arguments, source)
    if source is not None and source.note:
        print(f"NOTE: {source.note}")

    from benchmark.launch.jobs import to_do
    from benchmark.launch.local import Local, PlanOutcome
    from benchmark.launch.progress import reporting
    from benchmark.plan.estimate import Measured
    from benchmark.train.settings import Request, Settings

    store = store_of(arguments)
    if ranks.world > 1:
        ranks.together(lambda: _one_process(arguments, to_do(plan, store), ranks.world))
    missing = [run for run in plan.runs if store.read(run) is None]
    measured = Measured.here(arguments.runs_dir, device, arguments.threads)
    hours = print_plan(plan, replace(plan, runs=missing), device, measured)
    if arguments.dry_run:
        return 0
    ask(hours, arguments)
    outcome = PlanOutcome()
    if ranks.told(bool(missing)):
        settings = Settings(
            store=store,
            device=device,
            threads=arguments.threads,
            compile=arguments.compile,
            pack=arguments.pack,
            asked={"device": arguments.device},
            request=Request.of(plan, sys.argv[1:]),
            source=source,
            data_dir=arguments.data_dir,
            checkpoint_seconds=arguments.checkpoint_seconds,
            keep_side_networks=arguments.keep_side_networks,
            workers=arguments.workers,
            ranks=ranks,
            stop=Flag(),
        )
        with reporting(settings, len(plan.runs)) as reported:
            outcome = Local(reported).execute(plan)
    if ranks.leads:
        _print_tables(arguments, suites, source)
        for run, reason in outcome.failed:
            print(f"FAILED {run.label}: {reason}", file=sys.stderr)
        for run in outcome.diverged:
            print(f"DIVERGED {run.label}", file=sys.stderr)
        if outcome.stopped:
            print("stopped; the same command resumes from the checkpoints", file=sys.stderr)
    if outcome.stopped:
        return 130
    return outcome.exit_code or (1 if outcome.diverged else 0)


def _one_process(arguments: requests.Run, runs: Sequence[Run], processes: int) -> None:
    """Raise if several processes, as torchrun starts them, would train a dense task."""
    from benchmark.launch.jobs import refuse_several

    again = f"python -m benchmark run {' '.join(arguments.suites)}; with torchrun, name only suites of classification"
    refuse_several(runs, f"{processes} processes by torchrun (WORLD_SIZE {processes})", again)


def _launched(arguments: requests.Run, suites: list[Suite]) -> int:
    """Run suites through submitit. With Slurm the device is requested: this machine need not have it."""
    from benchmark.cli.launching import launched

    source = source_for(suites, arguments, only_planning=arguments.dry_run)
    plan = planned(suites, arguments, source)
    if source is not None and source.note:
        print(f"NOTE: {source.note}")
    if arguments.launcher != "slurm":
        device = pick_device(arguments.device)
    elif arguments.device == "auto":
        device = "cpu" if arguments.gpus == 0 else "cuda"
    else:
        device = arguments.device
    code = launched(arguments, plan, source, device)
    if arguments.wait or arguments.launcher == "debug":
        _print_tables(arguments, suites, source)
    return code


def _print_tables(arguments: requests.Run, suites: list[Suite], source: DataSource | None) -> None:
    print()
    stand_in = source is not None and source.kind == GENERATED
    evidence = collect(store_of(arguments).folders)
    for suite in suites:
        notes = [source.note] if source is not None and source.note else []
        table = suite_table(suite, selection_of(arguments, stand_in), evidence, notes)
        name = "@".join((suite.name, *arguments.variants))
        path = store_of(arguments).table(name, arguments.profile or suite.file.profile)
        write_text(path, table.markdown())
        print(f"{table.markdown()}\nwritten to {near(path)}")
