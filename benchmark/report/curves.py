"""Learning curves of a cell's runs, from the CSV files beside their records."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from benchmark.comparison import CellView, RunView
from benchmark.report.plots import Level, Line, Point, curve_plot

MOST_RUNS = 5  # lines of one plot that can still be told apart
MOST_TERMS = 4
Table = dict[str, tuple[Point, ...]]


def read_curves(path: Path) -> Table:
    """Every quantity by epoch; nothing where the file is missing or is no table. Cells without a value are left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    if not lines:
        return {}
    names = next(csv.reader(lines[:1]))
    if "epoch" not in names:
        return {}
    wanted = [(index, name) for index, name in enumerate(names) if name != "epoch" and ".bin" not in name]
    rows = [line.split(",") for line in lines[1:]]
    at = names.index("epoch")
    found: Table = {}
    for index, name in wanted:
        points = tuple((float(row[at]), float(row[index])) for row in rows if _usable(row, at, index))
        if points:
            found[name] = points
    return found


def _usable(row: Sequence[str], *places: int) -> bool:
    try:
        return all(math.isfinite(float(row[place])) for place in places)
    except (ValueError, IndexError):
        return False


def curve_plots(cell: CellView, runs: Sequence[RunView], ident: str) -> tuple[Markup, ...]:
    """The cell's metric over the epochs of each run, and the training terms of the first run that has any."""
    tables = [(run, read_curves(Path(run.curves))) for run in runs[:MOST_RUNS] if run.curves]
    tested = [
        Line(f"repetition {run.repetition}", table[f"test.{cell.metric}"])
        for run, table in tables
        if f"test.{cell.metric}" in table
    ]
    plots = []
    if tested:
        levels = [Level(f"published {cell.references[0].printed}", cell.references[0].value)] if cell.references else []
        title = f"{cell.metric} on the test images by epoch, {cell.row}, {cell.column}"
        plots.append(curve_plot(tested, title, f"{ident}-m", f"{cell.metric}, %", levels))
    for run, table in tables:
        terms = [Line(name.removeprefix("train."), line) for name, line in table.items() if name.startswith("train.")]
        if terms:
            title = f"training terms by epoch, repetition {run.repetition}, {cell.row}, {cell.column}"
            plots.append(
                curve_plot(terms[:MOST_TERMS], title, f"{ident}-l", "training terms, epoch means (log)", log=True)
            )
            break
    return tuple(plots)
