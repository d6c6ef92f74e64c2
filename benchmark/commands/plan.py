"""`plan`: what a run would do."""

from __future__ import annotations

import argparse
import json
import sys

from benchmark.commands.planning import planned, source_for, suites_of
from benchmark.commands.run import pick_device, print_plan
from benchmark.errors import MissingInput


def main(arguments: argparse.Namespace) -> int:
    """Print the deduplicated plan and its estimate. Data need not be there to plan with."""
    suites = suites_of(arguments)
    try:
        source = source_for(suites, arguments, allow_download=False)
    except MissingInput as error:
        source = None
        print(f"NOTE: {error.message}", file=sys.stderr)
    plan = planned(suites, arguments, source)
    device = pick_device(arguments.device).split(":")[0]
    if not arguments.json:
        print_plan(plan, plan, device)
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
