"""`run`: plan, train what is missing, print the tables."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from benchmark.commands.planning import planned, selection_of, source_for, store_of, suites_of
from benchmark.data.locate import GENERATED
from benchmark.errors import UsageError
from benchmark.experiment import Plan
from benchmark.files import write_text
from benchmark.report.table import suite_table

ASK_ABOVE_HOURS = 8.0


def main(arguments: argparse.Namespace) -> int:
    """Run suites; the exit code."""
    suites = suites_of(arguments)
    source = source_for(suites, arguments, only_planning=arguments.dry_run)
    plan = planned(suites, arguments, source)
    if source is not None and source.note:
        print(f"NOTE: {source.note}")

    from benchmark.engine.training import Settings
    from benchmark.launch.local import Local, Outcome
    from benchmark.launch.progress import reporting

    device = pick_device(arguments.device)
    store = store_of(arguments)
    missing = [run for run in plan.runs if store.read(run) is None]
    hours = print_plan(plan, replace(plan, runs=missing), device)
    if arguments.dry_run:
        return 0
    if hours > ASK_ABOVE_HOURS and not arguments.yes:
        _ask(hours)
    outcome = Outcome()
    if missing:
        settings = Settings(
            store=store,
            device=device,
            threads=arguments.threads,
            asked={"device": arguments.device},
            source=source,
            data_dir=arguments.data_dir,
            checkpoint_seconds=arguments.checkpoint_seconds,
        )
        with reporting(settings, len(plan.runs)) as reported:
            outcome = Local(reported).carry_out(plan)
    print()
    stand_in = source is not None and source.kind == GENERATED
    for suite in suites:
        notes = [source.note] if source is not None and source.note else []
        table = suite_table(suite, selection_of(arguments, stand_in), store, notes)
        path = Path("reports") / f"{suite.name}.md"
        write_text(path, table.markdown())
        print(f"{table.markdown()}\nwritten to {path}")
    for run, reason in outcome.failed:
        print(f"FAILED {run.label}: {reason}", file=sys.stderr)
    for run in outcome.diverged:
        print(f"DIVERGED {run.label}", file=sys.stderr)
    if outcome.stopped:
        print("stopped; the same command goes on from the checkpoints", file=sys.stderr)
        return 130
    return outcome.exit_code or (1 if outcome.diverged else 0)


def pick_device(name: str) -> str:
    """A device that is there.

    Raises:
        UsageError: it is not.
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


def print_plan(plan: Plan, missing: Plan, device: str) -> float:
    """What is to be done and how long it may take; the hours."""
    from benchmark.estimate import plan_seconds
    from benchmark.launch.progress import duration

    seconds = plan_seconds(missing, device.split(":")[0])
    print(
        f"{len(plan.runs)} runs of {len(plan.experiments)} experiments, {len(plan.runs) - len(missing.runs)} done, "
        f"{len(missing.runs)} to do on {device}: roughly {duration(seconds)}"
    )
    for run in missing.runs:
        print(f"  {run.label}  {run.experiment.identity}")
    reasons: dict[str, int] = {}
    for _, reason in plan.left_out:
        reasons[reason] = reasons.get(reason, 0) + 1
    for reason, count in sorted(reasons.items()):
        print(f"  left out: {count} cells, {reason}")
    return seconds / 3600


def _ask(hours: float) -> None:
    if not sys.stdin.isatty():
        raise UsageError(f"this may take {hours:.0f} hours", "say --yes, or choose less with --only and --seeds")
    if input(f"this may take {hours:.0f} hours. Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UsageError("not started", "choose less with --only and --seeds")
