"""Figures 4 and 5 of the paper from records: accuracy by denoising steps, and the learned noise weight gamma."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from benchmark.judge.views import CellView, TableView
from benchmark.paper.suite import figure_number
from benchmark.report.charts import FILLS, Chart, Course, Sheet, Spot, courses_chart, histogram, spots_chart
from benchmark.report.curves import CurveFile, read_curves
from benchmark.report.listing import ListedRun
from benchmark.report.wording import arrows, plural

GAMMA = re.compile(r"train\.(?:(?P<branch>.*)\.)?gamma")
METRICS = {"top1": "top-1 accuracy (%)", "top5": "top-5 accuracy (%)"}


@dataclass(frozen=True)
class PaperFigure:
    """A drawn figure: its number, and the name of its file without the ending."""

    number: str
    name: str
    sheet: Sheet


def paper_figures(table: TableView, runs: Mapping[str, ListedRun]) -> Iterator[PaperFigure]:
    """Yield the figures that a table declares and its own runs can draw. `runs` are all runs by id."""
    for number in dict.fromkeys(figure_number(figure.number) for figure in table.figures):
        parts = [figure for figure in table.figures if figure_number(figure.number) == number]
        cells = [cell for cell in table.cells if parts[0].row in ("", cell.row)]
        quantities = {figure.quantity for figure in parts}
        if "accuracy" in quantities:
            yield from _accuracy(number, table, cells, runs)
        if quantities & {"gamma-histogram", "gamma-curve"}:
            for cell in cells:
                yield from _gamma(number, table, cell, _own(cell, runs))


def _own(cell: CellView, runs: Mapping[str, ListedRun]) -> list[ListedRun]:
    """Return the finished runs of the cell's own experiment, not those near it under another protocol."""
    own = [runs[ident] for ident in cell.runs if ident in runs and ident.startswith(f"{cell.experiment}-")]
    return [run for run in own if run.status == "done"]


def said_of(title: str, profile: str, *lines: str) -> tuple[str, ...]:
    """Return the lines under a figure's title that say what was run: the suite's title and the profile first."""
    reduced = {"mini": ": a reduced study, not a reproduction", "smoke": ": a smoke run, which shows nothing"}
    return (arrows(title), f"Profile {profile}{reduced.get(profile, '')}. {' '.join(lines)}")


def _accuracy(
    number: str, table: TableView, cells: Sequence[CellView], runs: Mapping[str, ListedRun]
) -> Iterator[PaperFigure]:
    by_steps = sorted((cell for cell in cells if cell.nfe is not None), key=lambda cell: cell.nfe or 0)
    spots = [_spot(str(cell.nfe), cell, runs) for cell in by_steps]
    if not any(spot.values for spot in spots):
        return
    alone = [_spot("student without distillation", cell, runs) for cell in table.cells if cell.method == "none"]
    level = next((spot for spot in alone if spot.values), None)
    first, selection = next((c, c.achieved.selection) for c in by_steps if c.achieved and _own(c, runs))
    chart = spots_chart(
        [spot for spot in spots if spot.values or spot.published is not None],
        level,
        first.label,
        "denoising steps (NFE)",
        METRICS.get(first.metric, first.metric),
    )
    said = said_of(table.title, table.profile, f"Recipe {first.recipe}, {selection} epoch.")
    title = f"Figure {number}: accuracy by number of denoising steps"
    yield PaperFigure(number, f"figure{number}-{table.suite}", Sheet(title, said, (chart,)))


def _spot(label: str, cell: CellView, runs: Mapping[str, ListedRun]) -> Spot:
    values = cell.achieved.values if cell.achieved is not None and _own(cell, runs) else ()
    published = next((reference.value for reference in cell.references if reference.kind == "paper"), None)
    return Spot(label, values, published)


def _gamma(number: str, table: TableView, cell: CellView, runs: Sequence[ListedRun]) -> Iterator[PaperFigure]:
    files = [read_curves(Path(run.curves)) for run in runs if run.curves]
    names = [name for name in dict.fromkeys(n for file in files for n in file.names) if GAMMA.fullmatch(name)]
    few = names[:FILLS]
    charts = tuple(chart for chart in (_histogram(files, few), _course(files, few)) if chart is not None)
    if not charts:
        return
    said = said_of(
        table.title,
        table.profile,
        f"{cell.label}, row {arrows(cell.row)}, recipe {cell.recipe}, {plural(len(files), 'repetition')}.",
        "The larger γ is, the less noise is mixed into the student's tensor.",
        f"The first {len(few)} of {len(names)} branches." if len(few) < len(names) else "",
    )
    title = f"Figure {number}: the learned noise weight γ"
    yield PaperFigure(number, f"figure{number}-{cell.experiment}", Sheet(title, said, charts))


def _branch(name: str) -> str:
    found = GAMMA.fullmatch(name)
    return f"γ of {found['branch']}" if found is not None and found["branch"] else "γ"


def _histogram(files: Sequence[CurveFile], names: Sequence[str]) -> Chart | None:
    """Draw all gamma of the kept epochs and all runs together, as the paper's histogram does."""
    series, epochs = [], set()
    for name in names:
        bins = sorted({n for file in files for n in file.names if n.startswith(f"{name}.bin")})
        points = [[point for file in files for point in file.line(bin_name)] for bin_name in bins]
        if all(points) and points:
            series.append((_branch(name), [100 * fmean(share for _, share in found) for found in points]))
            epochs |= {epoch for found in points for epoch, _ in found}
    if not series:
        return None
    counted = plural(len(epochs), "epoch")
    return histogram(series, f"(a) distribution during training, {counted} kept", "γ", "samples (%)")


def _course(files: Sequence[CurveFile], names: Sequence[str]) -> Chart | None:
    courses = [Course(_branch(name), tuple(point for file in files for point in file.line(name))) for name in names]
    courses = [course for course in courses if course.points]
    if not courses:
        return None
    name = "(b) mean of each epoch" + ("; band: range of the repetitions" if len(files) > 1 else "")
    return courses_chart(courses, name, "mean γ", (0.0, 1.0))
