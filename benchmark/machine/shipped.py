"""What comes with the program: suites, committed records with the weights beside them, reports to compare with.

In a checkout these are folders beside the packages. An installation has copies inside `benchmark`, made by setup.py.
What a user's work makes (results, runs, reports) lies where they stand, or where their options say: never here.
"""

from __future__ import annotations

from benchmark.machine.plugins import ROOT

_COPIES = ROOT / "benchmark" / "shipped"

INSTALLED = _COPIES.is_dir()  # as copies, which nobody edits
SHIPPED = _COPIES if INSTALLED else ROOT
SUITES = SHIPPED / "suites"
RESULTS = SHIPPED / "results"
