"""`plan`: what a run would do."""

from __future__ import annotations

import argparse
import json

from benchmark.commands.planning import planned, source_for, suites_of
from benchmark.commands.run import pick_device, print_plan


def main(arguments: argparse.Namespace) -> int:
    """Print the deduplicated plan and its estimate. Data need not be there to plan with."""
    suites = suites_of(arguments)
    source = source_for(suites, arguments, only_planning=True)
    plan = planned(suites, arguments, source)
    from benchmark.estimate import Measured, seconds

    picked = pick_device(arguments.device)
    device, measured = picked.split(":")[0], Measured.here(arguments.runs_dir, picked)
    if not arguments.json:
        print_plan(plan, plan, device, measured)
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
