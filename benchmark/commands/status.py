"""`status`: what is done, running, failed and missing. Never imports torch."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from benchmark.commands.output import print_rows
from benchmark.commands.planning import selection_of, store_of, suites_of
from benchmark.data.locate import present
from benchmark.experiment import Plan, Run, make_plan
from benchmark.lease import holder_of
from benchmark.manifest import Suite
from benchmark.records import Record, Store, Unreadable, read_record

STATES = ("done", "running", "stopped", "failed", "diverged", "skipped", "unreadable", "missing")


def main(arguments: argparse.Namespace) -> int:
    """One line a suite; with suites named, one line a run as well."""
    store = store_of(arguments)
    suites = suites_of(arguments)
    rows, runs = [], []
    for suite in suites:
        plan = _plan(suite, arguments)
        states = {run.label + run.experiment.identity: state_of(run, store) for run in plan.runs}
        counts = Counter(state for state, _ in states.values())
        rows.append({"suite": suite.name, "runs": len(plan.runs), **{state: counts[state] for state in STATES}})
        for run in plan.runs:
            state, why = states[run.label + run.experiment.identity]
            runs.append({"run": run.label, "experiment": run.experiment.identity, "state": state, "why": why})
    if arguments.json:
        print_rows([*rows, *runs] if arguments.suites else rows, as_json=True)
        return 0
    shown = [state for state in STATES if any(row[state] for row in rows)]
    print_rows(rows, False, ("suite", "runs", *shown))
    if arguments.suites:
        print()
        print_rows(runs, False)
    return 0


def _plan(suite: Suite, arguments: argparse.Namespace) -> Plan:
    smoke = (arguments.profile or suite.file.profile) == "smoke"
    return make_plan([suite], selection_of(arguments, stand_in=smoke and not present(arguments.data_dir)))


def state_of(run: Run, store: Store) -> tuple[str, str]:
    """A run's state and, where there is something to say, why."""
    paths = store.paths(run)
    record = read_record(paths.record)
    if isinstance(record, Record):
        return record.status, record.reason
    if isinstance(record, Unreadable):
        return "unreadable", f"{record.path}: {record.reason}"
    holder = holder_of(paths.lease)
    if holder is not None:
        return "running", f"process {holder.pid} on {holder.host}"
    if paths.failure.exists():
        return "failed", f"{_last_line(paths.failure.read_text())} ({paths.failure})"
    if any(paths.work.glob(f"*{paths.checkpoint.name}")):  # the last, the one before, or one just being put in place
        return "stopped", "goes on from its checkpoint"
    return "missing", ""


def _last_line(text: str) -> str:
    lines: list[Any] = text.strip().splitlines()
    return str(lines[-1]) if lines else ""
