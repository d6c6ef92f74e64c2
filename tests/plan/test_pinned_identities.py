"""The identities of committed records and of Table 9 do not change, so that their records are still found."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest
import yaml
from small import ROOT

from benchmark.paper.manifest import load, load_all, suite_path
from benchmark.paper.suite import ProfileName, Suite
from benchmark.plan.experiment import Experiment, Selection, experiment_of, make_plan

FILE = "tests/pinned/identities.yaml"
PINNED: dict[str, Any] = yaml.safe_load((ROOT / FILE).read_text())
ORPHANED: dict[str, str] = PINNED["orphaned"]
WHY = (
    "Records are found by their identity alone. Records of the old one, those committed here and those in other "
    "people's folders, are orphaned by this change: no table shows them, and the next run trains again what is done.\n"
    "Leave new settings at defaults that change nothing, and say a method's change by its `revision`. If the old "
    f"records really no longer stand for the experiment, give the reason in the commit message, write the new identity "
    f"into {FILE} by hand, and name what is left behind under `orphaned`."
)


def experiments(suite: Suite, profile: ProfileName) -> dict[tuple[str, str], Experiment]:
    """Return the experiments by column and row."""
    found = {(cell.column, cell.row): experiment_of(cell, profile, suite.profile(profile)) for cell in suite.cells}
    return {place: experiment for place, experiment in found.items() if experiment is not None}


def changes(found: dict[str, str], known: dict[str, str]) -> str:
    return "\n".join(
        f"{row} is {found.get(row, 'planned no more')}, and was {known.get(row, 'not pinned')}"
        for row in {**known, **found}
        if found.get(row) != known.get(row)
    )


@pytest.mark.parametrize("name", PINNED["committed"])
def test_suites_plan_the_experiments_of_committed_records(name: str) -> None:
    suite = load(suite_path(name))
    found = {row: e.identity for (_, row), e in experiments(suite, suite.file.profile).items()}
    changed = changes(found, {row: pinned["identity"] for row, pinned in PINNED["committed"][name].items()})
    assert not changed, f"{name}: {changed}.\n{WHY}"


@pytest.mark.parametrize("column", PINNED["table9"])
def test_table_9_plans_the_experiments_that_it_always_did(column: str) -> None:
    found = experiments(load(suite_path("table9")), "paper")
    changed = changes({row: e.identity for (name, row), e in found.items() if name == column}, PINNED["table9"][column])
    assert not changed, f"Table 9, {column}: {changed}.\n{WHY}"


def test_no_column_of_table_9_is_left_out() -> None:
    assert {column for column, _ in experiments(load(suite_path("table9")), "paper")} == set(PINNED["table9"])


def committed() -> dict[str, set[int]]:
    """Return the repetitions under results/ by identity."""
    found = defaultdict(set)
    for path in (ROOT / "results").rglob("r*.json"):
        record = json.loads(path.read_text())
        found[record["identity"]].add(record["repetition"])
    return found


def test_every_committed_record_is_pinned_and_still_there() -> None:
    rows = [row for suite in PINNED["committed"].values() for row in suite.values()]
    pinned = {row["identity"]: row["records"] for row in rows if row["records"]}
    there = {identity: len(repetitions) for identity, repetitions in committed().items() if identity not in ORPHANED}
    assert there == pinned, (
        f"results/ and {FILE} differ. Records are never taken away, for the page and others' comparisons "
        "rest on them; for new records add a line."
    )


def test_no_committed_record_is_orphaned() -> None:
    """Check all suites together, because a row may move to another suite."""
    planned: set[str] = set()
    for suite in load_all():
        planned |= make_plan([suite], Selection(all_rows=True)).declared.keys()
    lost = committed().keys() - planned
    assert lost == ORPHANED.keys(), f"no suite plans the committed records of {sorted(lost)}.\n{WHY}"
    assert all(ORPHANED.values()), "each with its reason"
