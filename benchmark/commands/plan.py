"""`plan`: what a run would do."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from benchmark.commands.planning import planned, source_for, suites_of
from benchmark.commands.run import pick_device, print_plan
from benchmark.experiment import Plan


def main(arguments: argparse.Namespace) -> int:
    """Print the deduplicated plan and its estimate. Data need not be there to plan with."""
    suites = suites_of(arguments)
    source = source_for(suites, arguments, only_planning=True)
    plan = planned(suites, arguments, source)
    device = "cuda" if arguments.gpus else pick_device(arguments.device).split(":")[0]
    if not arguments.json:
        print_plan(plan, plan, device)
        print_budget(plan, device, arguments.gpus or [1])
        return 0
    from benchmark.estimate import seconds

    rows = [
        {
            "run": run.label,
            "experiment": run.experiment.identity,
            "repetition": run.repetition,
            "estimated_seconds": round(seconds(run.experiment, device), 1),
            "cells": [cell.id for cell in plan.cells.get(run.experiment.identity, ())],
        }
        for run in plan.runs
    ]
    print(json.dumps(rows, indent=1, ensure_ascii=False))
    return 0


def print_budget(plan: Plan, device: str, counts: Sequence[int]) -> None:
    """What the whole plan costs, and how long it lasts on so many devices."""
    from benchmark.budget import budget, lasts

    lasting = {count: lasts(plan.runs, device, count) for count in counts}
    print(f"cost, by arithmetic over multiply-adds:\n{budget(plan.runs, device).table(lasting, device)}")
