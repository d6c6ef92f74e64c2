"""`plan`: show what `run` would train, and what that costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmark.cli import requests
from benchmark.cli.planning import planned, print_plan, source_for, suites_of
from benchmark.machine.devices import pick_device
from benchmark.plan.experiment import Plan

if TYPE_CHECKING:
    from benchmark.plan.estimate import Measured


def main(arguments: requests.Plan) -> int:
    """Print each run once, and estimates of time and disk space. No data set is needed. Return the exit code."""
    suites = suites_of(arguments)
    source = source_for(suites, arguments, only_planning=True)
    plan = planned(suites, arguments, source)
    from benchmark.plan.estimate import Measured, seconds

    elsewhere = bool(arguments.gpus)  # --gpus asks about any machine, so this machine's devices and speeds are ignored
    picked = "cuda" if elsewhere else pick_device(arguments.device)
    device, measured = picked.split(":")[0], None if elsewhere else Measured.here(arguments.runs_dir, picked)
    if not arguments.json:
        print_plan(plan, plan, device, measured)
        print_budget(plan, device, arguments.gpus or [1], measured)
        return 0
    scale = measured.scale([run.experiment for run in plan.runs], device) if measured is not None else 1.0
    rows = [
        {
            "run": run.label,
            "experiment": run.experiment.identity,
            "repetition": run.repetition,
            "estimated_seconds": round(seconds(run.experiment, device, measured, scale), 1),
            "cells": [cell.id for cell in plan.cells.get(run.experiment.identity, ())],
        }
        for run in plan.runs
    ]
    print(json.dumps(rows, indent=1, ensure_ascii=False))
    return 0


def print_budget(plan: Plan, device: str, counts: Sequence[int], measured: Measured | None = None) -> None:
    """Print the cost of the whole plan, and its duration on each number of devices."""
    from benchmark.plan.budget import budget, lasts

    lasting = {count: lasts(plan.runs, device, count, measured) for count in counts}
    how = "from speeds measured here" if measured is not None else "from counted multiply-adds, nothing was measured"
    print(f"cost, estimated {how}:\n{budget(plan.runs, device, measured).table(lasting, device)}")
