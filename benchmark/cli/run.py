"""`run`: plan, train what is missing, print the tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.cli.planning import planned, selection_of, source_for, store_of, suites_of, without_output
from benchmark.data.locate import GENERATED, DataSource
from benchmark.errors import UsageError
from benchmark.launch.stopping import Flag
from benchmark.machine.files import write_text
from benchmark.paper.manifest import Suite
from benchmark.plan.experiment import Plan, Run
from benchmark.report.table import suite_table

if TYPE_CHECKING:
    from benchmark.machine.ranks import Ranks
    from benchmark.plan.estimate import Measured

ASK_ABOVE_HOURS = 8.0


def main(arguments: argparse.Namespace) -> int:
    """Run suites, and return the exit code. Of several processes that torchrun started, only one prints."""
    suites = suites_of(arguments)
    if arguments.launcher is not None:
        return _launched(arguments, suites)

    from benchmark.machine.ranks import joined, local_device

    device = local_device(pick_device(arguments.device))
    with joined(device) as ranks, without_output(not ranks.leads):
        return _run(arguments, suites, device, ranks)


def _run(arguments: argparse.Namespace, suites: list[Suite], device: str, ranks: Ranks) -> int:
    source = ranks.leader_first(lambda: source_for(suites, arguments, only_planning=arguments.dry_run))
    plan = planned(suites, arguments, source)
    if source is not None and source.note:
        print(f"NOTE: {source.note}")

    from benchmark.launch.jobs import to_do
    from benchmark.launch.local import Local, Outcome
    from benchmark.launch.progress import reporting
    from benchmark.plan.estimate import Measured
    from benchmark.train.classification.training import Settings

    store = store_of(arguments)
    if ranks.world > 1:
        ranks.together(lambda: _one_process(arguments, to_do(plan, store), ranks.world))
    missing = [run for run in plan.runs if store.read(run) is None]
    measured = Measured.here(arguments.runs_dir, device, arguments.threads)
    hours = print_plan(plan, replace(plan, runs=missing), device, measured)
    if arguments.dry_run:
        return 0
    ask(hours, arguments)
    outcome = Outcome()
    if ranks.told(bool(missing)):
        settings = Settings(
            store=store,
            device=device,
            threads=arguments.threads,
            compile=arguments.compile,
            pack=arguments.pack,
            asked={"device": arguments.device},
            source=source,
            data_dir=arguments.data_dir,
            checkpoint_seconds=arguments.checkpoint_seconds,
            workers=arguments.workers,
            ranks=ranks,
            stop=Flag(),
        )
        with reporting(settings, len(plan.runs)) as reported:
            outcome = Local(reported).carry_out(plan)
    if ranks.leads:
        _print_tables(arguments, suites, source)
        for run, reason in outcome.failed:
            print(f"FAILED {run.label}: {reason}", file=sys.stderr)
        for run in outcome.diverged:
            print(f"DIVERGED {run.label}", file=sys.stderr)
        if outcome.stopped:
            print("stopped; the same command goes on from the checkpoints", file=sys.stderr)
    if outcome.stopped:
        return 130
    return outcome.exit_code or (1 if outcome.diverged else 0)


def _one_process(arguments: argparse.Namespace, runs: Sequence[Run], processes: int) -> None:
    """Raise if several processes, as torchrun starts them, would train a dense task."""
    from benchmark.launch.jobs import refuse_several

    again = f"python -m benchmark run {' '.join(arguments.suites)}; with torchrun, name suites of classification alone"
    refuse_several(runs, f"{processes} processes by torchrun (WORLD_SIZE {processes})", again)


def _launched(arguments: argparse.Namespace, suites: list[Suite]) -> int:
    """Run suites through submitit. A cluster's device is requested, not looked for on this machine."""
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


def _print_tables(arguments: argparse.Namespace, suites: list[Suite], source: DataSource | None) -> None:
    print()
    stand_in = source is not None and source.kind == GENERATED
    for suite in suites:
        notes = [source.note] if source is not None and source.note else []
        table = suite_table(suite, selection_of(arguments, stand_in), store_of(arguments), notes)
        path = Path("reports") / f"{suite.name}.md"
        write_text(path, table.markdown())
        print(f"{table.markdown()}\nwritten to {path}")


def pick_device(name: str) -> str:
    """Return a device that is available.

    Raises:
        UsageError: the device is not available, or the name is no device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"no device {name!r}", "--device cpu, cuda or cuda:0") from error
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise UsageError(
            f"{name} is not here: torch sees {torch.cuda.device_count()} CUDA devices",
            "--device cpu, or python -m benchmark doctor",
        )
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device type {device.type!r} is not supported", "--device cpu or cuda")
    return str(device)


def print_plan(plan: Plan, missing: Plan, device: str, measured: Measured | None = None) -> float:
    """Print the pending runs and an estimate of their duration. Return the estimate in hours."""
    from benchmark.launch.progress import duration
    from benchmark.plan.estimate import plan_seconds

    seconds = plan_seconds(missing, device.split(":")[0], measured)
    how = " by speeds measured here" if measured is not None else ""
    print(
        f"{len(plan.runs)} runs of {len(plan.experiments)} experiments, {len(plan.runs) - len(missing.runs)} done, "
        f"{len(missing.runs)} to do on {device}: roughly {duration(seconds)}{how}"
    )
    for run in missing.runs:
        print(f"  {run.label}  {run.experiment.identity}")
    reasons: dict[str, int] = {}
    for _, reason in plan.left_out:
        reasons[reason] = reasons.get(reason, 0) + 1
    for reason, count in sorted(reasons.items()):
        print(f"  left out: {count} cells, {reason}")
    return seconds / 3600


def ask(hours: float, arguments: argparse.Namespace) -> None:
    """Ask the user to confirm a run of many hours. Raise if the answer is no."""
    if hours <= ASK_ABOVE_HOURS or arguments.yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"this may take {hours:.0f} hours", "say --yes, or choose less with --only and --seeds")
    if input(f"this may take {hours:.0f} hours. Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UsageError("not started", "choose less with --only and --seeds")
