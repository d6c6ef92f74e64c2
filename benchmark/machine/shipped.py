"""Files that come with the program: suites and their sources, committed records with their weights, reference reports.

In a checkout these are folders beside the packages. An installation has copies inside `benchmark`, made by setup.py.
A user's own results, runs and reports are never written here, but to the working directory or to the folders that the
command line names.
"""

from __future__ import annotations

from benchmark.machine.plugins import ROOT

_COPIES = ROOT / "benchmark" / "shipped"

INSTALLED = _COPIES.is_dir()  # True if the program uses such copies, which must not be edited
SHIPPED = _COPIES if INSTALLED else ROOT
SUITES = SHIPPED / "suites"
RESULTS = SHIPPED / "results"
