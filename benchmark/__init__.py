"""A reproducibility benchmark for DiffKD: run every row of the paper, then say which numbers hold.

These names offer to a notebook what the command line does; docs/notebook.md has an example. Each name is loaded when it
is first used, so that importing the package is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmark import records as records
    from benchmark.api import cells, compare, load_suites, make_plan, run
    from benchmark.errors import BenchmarkError
    from benchmark.judge.views import Comparison
    from benchmark.launch.local import PlanOutcome
    from benchmark.paper.suite import Suite
    from benchmark.plan.experiment import Plan

__version__ = "0.1.0"

_PLACES = {
    "load_suites": "api",
    "make_plan": "api",
    "run": "api",
    "compare": "api",
    "cells": "api",
    "Suite": "paper.suite",
    "Plan": "plan.experiment",
    "PlanOutcome": "launch.local",
    "Comparison": "judge.views",
    "BenchmarkError": "errors",
}

__all__ = [
    "BenchmarkError",
    "Comparison",
    "Plan",
    "PlanOutcome",
    "Suite",
    "cells",
    "compare",
    "load_suites",
    "make_plan",
    "records",
    "run",
]


def __getattr__(name: str) -> object:
    if name == "records":  # a package, whose `frame()` returns all records as a table
        return import_module("benchmark.records")
    if name not in _PLACES:
        raise AttributeError(f"module 'benchmark' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(f"benchmark.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
