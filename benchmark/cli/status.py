"""`status`: which runs are done, running, queued, failed or missing. Never imports torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from benchmark.cli import requests
from benchmark.cli.output import print_rows
from benchmark.cli.planning import selection_of, store_to_read, suites_of
from benchmark.data.locate import present
from benchmark.launch.states import STATE_NAMES, States
from benchmark.paper.suite import Suite
from benchmark.plan.experiment import Plan, make_plan


def main(arguments: requests.Status) -> int:
    """Print one line for each suite and, if suites are named, one for each run. Return the exit code."""
    store = store_to_read(arguments)
    suites = suites_of(arguments)
    if arguments.variants:
        make_plan(suites, selection_of(arguments))  # raises if no suite has one of them
        suites = [suite for suite in suites if set(suite.readings) & set(arguments.variants)]
    known = States(store)
    rows, runs = [], []
    for suite in suites:
        plan = _plan(suite, arguments)
        states = {run.label + run.experiment.identity: known.of(run) for run in plan.runs}
        counts = Counter(state.name for state in states.values())
        rows.append({"suite": suite.name, "runs": len(plan.runs), **{name: counts[name] for name in STATE_NAMES}})
        for run in plan.runs:
            state = states[run.label + run.experiment.identity]
            runs.append(
                {"run": run.label, "experiment": run.experiment.identity, "state": state.name, "why": state.why}
            )
    if arguments.json:
        print_rows([*rows, *runs] if arguments.suites else rows, as_json=True)
        return 0
    shown = [name for name in STATE_NAMES if any(row[name] for row in rows)]
    print_rows(rows, False, ("suite", "runs", *shown))
    if arguments.suites:
        print()
        print_rows(runs, False)
    return 0


def _plan(suite: Suite, arguments: requests.Status) -> Plan:
    smoke = (arguments.profile or suite.file.profile) == "smoke"
    selection = selection_of(arguments, stand_in=smoke and not present(arguments.data_dir))
    own = tuple(name for name in selection.variants if name in suite.readings)
    return make_plan([suite], replace(selection, variants=own))
