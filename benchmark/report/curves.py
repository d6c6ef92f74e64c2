"""Learning curves of a cell's runs, from the CSV files beside their records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from benchmark.judge.views import CellView
from benchmark.report.listing import ListedRun
from benchmark.report.plots import Line, Point, ReferenceLine, curve_plot

MOST_RUNS = 5  # lines of one plot that a reader can still distinguish
MOST_TERMS = 5


@dataclass(frozen=True)
class CurveFile:
    """The columns of one curves file."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def line(self, name: str) -> tuple[Point, ...]:
        """Return one quantity by epoch. Epochs without a finite value are left out."""
        if name not in self.names or "epoch" not in self.names:
            return ()
        at, place = self.names.index("epoch"), self.names.index(name)
        points = (_point(row, at, place) for row in self.rows)
        return tuple(point for point in points if point is not None)

    def terms(self) -> tuple[str, ...]:
        """Return the names of the loss terms and tracked quantities, without the bins of histograms."""
        return tuple(name for name in self.names if name.startswith("train.") and ".bin" not in name)


def read_curves(path: Path) -> CurveFile:
    """Read a curves file. A missing or unreadable file gives one without columns."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    table = [tuple(line.split(",")) for line in lines]
    return CurveFile(table[0] if table else (), tuple(table[1:]))


def _point(row: Sequence[str], at: int, place: int) -> Point | None:
    try:
        found = float(row[at]), float(row[place])
    except (ValueError, IndexError):
        return None
    return found if math.isfinite(found[0]) and math.isfinite(found[1]) else None


CurveFiles = Sequence[tuple[ListedRun, CurveFile]]


@dataclass(frozen=True)
class CurveFigure:
    """A drawing and the labels of its lines, in the order of their styles."""

    drawing: Markup
    lines: tuple[str, ...]


def lines_of(runs: Sequence[ListedRun]) -> int:
    """Return the largest number of lines that a cell's figures may have."""
    with_curves = sum(run.curves is not None for run in runs[:MOST_RUNS])
    return with_curves + MOST_TERMS if with_curves else 0


def curve_figures(cell: CellView, runs: Sequence[ListedRun], ident: str, most: int) -> tuple[CurveFigure, ...]:
    """Draw a cell's figures: its metric by epoch for each run, and the training terms of the first run that has any.

    A line has at most `most` points.
    """
    files = [(run, read_curves(Path(run.curves))) for run in runs[:MOST_RUNS] if run.curves]
    figures = (_metric_figure(cell, files, f"{ident}-m", most), _term_figure(cell, files, f"{ident}-l", most))
    return tuple(figure for figure in figures if figure is not None)


def _metric_figure(cell: CellView, files: CurveFiles, ident: str, most: int) -> CurveFigure | None:
    read = [Line(f"repetition {run.repetition}", file.line(f"test.{cell.metric}")) for run, file in files]
    lines = [line for line in read if line.points]
    if not lines:
        return None
    levels = [ReferenceLine(f"published {first.printed}", first.value) for first in cell.references[:1]]
    title = f"{cell.metric} on the test images by epoch: {cell.row}, {cell.column}"
    drawing = curve_plot(lines, title, ident, f"{cell.metric} on the test images, %", most, levels)
    return CurveFigure(drawing, tuple(line.label for line in lines))


def _term_figure(cell: CellView, files: CurveFiles, ident: str, most: int) -> CurveFigure | None:
    for run, file in files:
        read = [Line(name.removeprefix("train."), file.line(name)) for name in file.terms()[:MOST_TERMS]]
        lines = [line for line in read if line.points]
        if lines:
            title = f"training terms by epoch, repetition {run.repetition}: {cell.row}, {cell.column}"
            label = f"training terms, repetition {run.repetition}"
            drawing = curve_plot(lines, title, ident, label, most, log=True)
            return CurveFigure(drawing, tuple(line.label for line in lines))
    return None
