"""A suite's own runs as one table: mean ± standard deviation (n), as the comparison has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.judge.cases import CellCase, declared_of, recorded
from benchmark.judge.cell import is_static, shown
from benchmark.paper.suite import Suite
from benchmark.plan.experiment import Selection, experiment_of
from benchmark.records.evidence import Evidence
from benchmark.report.markdown_table import markdown_table


@dataclass(frozen=True)
class Table:
    """A table of text, by row and column."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Return the table as Markdown that reads well as plain text too."""
        notes = [f"- {note}" for note in self.notes]
        parts = [f"### {self.title}", "", markdown_table(self.header, self.rows, padded=True)]
        return "\n".join(parts + (["", *notes] if notes else [])) + "\n"


def suite_table(suite: Suite, selection: Selection, evidence: Evidence, notes: Sequence[str] = ()) -> Table:
    """Return the results of the suite's runs so far, in the shape of the suite."""
    profile_name = selection.profile or suite.file.profile
    profile = suite.profile(profile_name)
    columns = [column.column for column in suite.file.columns]
    lines: dict[tuple[str, str], dict[str, str]] = {}
    asked = selection.seeds or profile.repetitions or suite.file.repetitions
    for cell in selection.cells_of(suite):
        if not is_static(cell):
            experiment = experiment_of(cell, profile_name, profile, selection.stand_in, selection.absent)
            if experiment is None:
                text = "not available"
            else:
                text = _text(recorded(cell, experiment, declared_of(cell, asked), evidence))
            row = f"{cell.row} @{cell.variant}" if cell.variant else cell.row
            lines.setdefault((cell.group, row), {})[cell.column] = text
    rows = tuple(
        (f"{group}: {row}" if group else row, *(cells.get(column, "") for column in columns))
        for (group, row), cells in lines.items()
    )
    extra = [] if profile_name == "paper" else [f"profile {profile_name}: not comparable with published numbers"]
    title = f"{suite.file.title} ({suite.name}, profile {profile_name})"
    return Table(title, ("", *columns), rows, (*notes, *extra))


def _text(case: CellCase) -> str:
    """Return a cell's result, for example `71.92 ± 0.14 (3)`, and the states of runs without one."""
    found = shown(case)
    states = sorted({run.record.status for run in case.runs} - {"done"})
    result = [] if found.mean is None else [f"{found.text.replace('±', ' ± ')} ({found.n})"]
    return ", ".join((*result, *states)) or "-"
