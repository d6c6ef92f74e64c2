"""A suite's own runs as one table: mean ± standard deviation (n)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.paper.suite import Cell, Suite
from benchmark.plan.experiment import STATIC_METRICS, Experiment, Run, Selection, experiment_of
from benchmark.records.store import Record, Store


@dataclass(frozen=True)
class Table:
    """A table of text, by row and column."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Return a Markdown table whose columns are aligned, so that it reads well as plain text too."""
        lines = [self.header, *self.rows]
        widths = [max(len(line[index]) for line in lines) for index in range(len(self.header))]

        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        notes = [f"- {note}" for note in self.notes]
        parts = [f"### {self.title}", "", line(self.header), rule, *map(line, self.rows)]
        return "\n".join(parts + (["", *notes] if notes else [])) + "\n"


def suite_table(suite: Suite, selection: Selection, store: Store, notes: Sequence[str] = ()) -> Table:
    """Return the results of the suite's runs so far, in the shape of the suite."""
    profile_name = selection.profile or suite.file.profile
    profile = suite.profile(profile_name)
    columns = [column.column for column in suite.file.columns]
    lines: dict[tuple[str, str], dict[str, str]] = {}
    declared = selection.seeds or profile.repetitions or suite.file.repetitions
    for cell in suite.cells:
        if selection.takes(cell) and selection.wants(cell) and cell.metric not in STATIC_METRICS:
            experiment = experiment_of(cell, profile_name, profile, selection.stand_in, selection.absent)
            text = achieved(cell, experiment, declared, store) if experiment else "not available"
            lines.setdefault((cell.group, cell.row), {})[cell.column] = text
    rows = tuple(
        (f"{group}: {row}" if group else row, *(cells.get(column, "") for column in columns))
        for (group, row), cells in lines.items()
    )
    extra = [] if profile_name == "paper" else [f"profile {profile_name}: not comparable with published numbers"]
    title = f"{suite.file.title} ({suite.name}, profile {profile_name})"
    return Table(title, ("", *columns), rows, (*notes, *extra))


def achieved(cell: Cell, experiment: Experiment, declared: int, store: Store) -> str:
    """Return a cell's result, for example `71.92 ± 0.14 (3)` (last epoch), or the states of its runs."""
    found = [store.read(Run(experiment, repetition)) for repetition in range(declared)]
    records = [record for record in found if isinstance(record, Record)]
    values = [record.last[cell.metric] for record in records if record.status == "done" and cell.metric in record.last]
    others = sorted({record.status for record in records if record.status != "done"})
    if not values:
        return ", ".join(others) or "-"
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{spread} ({len(values)})" + (f", {', '.join(others)}" if others else "")
