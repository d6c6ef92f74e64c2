"""What the page shows, arranged for its templates: places on the page, words, colours and drawings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from benchmark.comparison import CellView, Comparison, Coverage, Gain, Line, RunView, TableView
from benchmark.report.curves import CurveFigure, curve_figures
from benchmark.report.plots import GapRow, gap_plot
from benchmark.report.wording import NOTHING_PRINTED, SYMBOLS, TONES, arrows, symbol, tone
from benchmark.verdicts import Order, OrderJudgement, Verdict

NOTHING = NOTHING_PRINTED.replace(" ", "-")
# Gaps of these mean nothing, or are not measured in points.
_NOT_DRAWN = frozenset({Verdict.EQUAL, Verdict.DIFFERS})


@dataclass(frozen=True)
class Place:
    """A cell where it stands on the page."""

    cell: CellView
    anchor: str
    table: str  # its number
    runs: tuple[RunView, ...]
    extra: tuple[RunView, ...]
    set_aside: tuple[RunView, ...]
    near: tuple[RunView, ...]
    figures: tuple[CurveFigure, ...]

    @property
    def tone(self) -> str:
        """Its colour group."""
        return tone(self.cell.verdict)

    @property
    def symbol(self) -> str:
        """The sign of its verdict."""
        return symbol(self.cell.verdict)

    @property
    def word(self) -> str:
        """Its verdict, or why it has none."""
        if self.cell.problem:
            return "cannot be judged"
        return str(self.cell.verdict) if self.cell.verdict else NOTHING_PRINTED

    @property
    def slugs(self) -> str:
        """What a filter by verdict looks for."""
        return " ".join(dict.fromkeys(r.judgement.verdict.slug for r in self.cell.references)) or NOTHING

    @property
    def words(self) -> str:
        """What a filter by text looks in."""
        cell = self.cell
        parts = (cell.group, cell.row, cell.column, cell.method, cell.recipe, cell.metric, cell.data, cell.standing)
        return " ".join(dict.fromkeys(part for part in parts if part)).lower()


@dataclass(frozen=True)
class Row:
    """One row of a table, its cells in place."""

    line: Line
    places: tuple[Place | None, ...]


@dataclass(frozen=True)
class Block:
    """The rows of one group."""

    group: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Section:
    """A table with everything that belongs to it."""

    table: TableView
    blocks: tuple[Block, ...]
    gaps: Markup | None
    drawn: int
    gains: tuple[Gain, ...]  # those with runs on both sides
    orderings: tuple[OrderJudgement, ...]  # those that could be tested
    shares: tuple[tuple[str, int], ...]  # of its numbers, by tone, those with a verdict

    @property
    def places(self) -> Iterator[Place]:
        """Row by row."""
        return (place for block in self.blocks for row in block.rows for place in row.places if place is not None)

    @property
    def name(self) -> str:
        """`Table 9`, `Figure 4`, or the suite's own name."""
        return table_name(self.table.table)


@dataclass(frozen=True)
class Chip:
    """One verdict to filter by."""

    slug: str
    word: str
    symbol: str
    tone: str
    count: int
    meaning: str


@dataclass(frozen=True)
class Stage:
    """One bar of the coverage."""

    name: str
    count: int
    of: int
    meaning: str

    @property
    def share(self) -> float:
        """In percent."""
        return 100 * self.count / self.of if self.of else 0.0


def table_name(table: str) -> str:
    """A table's number as a heading has it."""
    if table.isdigit():
        return f"Table {table}"
    if table.startswith("fig") and table[3:].isdigit():
        return f"Figure {table[3:]}"
    if table[:1] == "c" and table[1:].isdigit():
        return f"Section {table[0].upper()}.{table[1:]}"
    return table


def sections(comparison: Comparison) -> tuple[Section, ...]:
    """Every table, in the comparison's order."""
    return tuple(_section(table, comparison.runs) for table in comparison.tables)


def _section(table: TableView, runs: Mapping[str, RunView]) -> Section:
    rows = [
        Row(line, tuple(_place(cell, table, runs, y, x) if cell else None for x, cell in enumerate(line.cells, 1)))
        for y, line in enumerate(table.rows, 1)
    ]
    blocks = tuple(Block(group, tuple(members)) for group, members in groupby(rows, key=lambda row: row.line.group))
    drawn = [place for row in rows for place in row.places if place is not None and _is_drawn(place)]
    orders = table.orderings.judgements if table.orderings else ()
    tones = Counter(tone(cell.verdict) for cell in table.cells if cell.references)
    return Section(
        table=table,
        blocks=blocks,
        gaps=_gaps(table, drawn) if drawn else None,
        drawn=len(drawn),
        gains=tuple(gain for gain in table.gains if gain.achieved is not None),
        orderings=tuple(o for o in orders if o.order is not Order.INSUFFICIENT_SEEDS),
        shares=tuple((name, tones[name]) for name in (*TONES, "none") if tones[name]),
    )


def _place(cell: CellView, table: TableView, runs: Mapping[str, RunView], y: int, x: int) -> Place:
    anchor = f"{table.suite}-{y}-{x}"
    counted = _found(cell.runs, runs)
    return Place(
        cell=cell,
        anchor=anchor,
        table=table_name(table.table),
        runs=counted,
        extra=_found(cell.extra, runs),
        set_aside=_found(cell.set_aside, runs),
        near=_found(cell.near, runs),
        figures=curve_figures(cell, counted, anchor),
    )


def _found(ids: tuple[str, ...], runs: Mapping[str, RunView]) -> tuple[RunView, ...]:
    return tuple(runs[ident] for ident in ids if ident in runs)


def _is_drawn(place: Place) -> bool:
    judgement = place.cell.judgement
    return judgement is not None and judgement.interval is not None and judgement.verdict not in _NOT_DRAWN


def _gaps(table: TableView, places: list[Place]) -> Markup:
    rows = [row for place in places if (row := _gap_row(place)) is not None]
    title = f"{table_name(table.table)}: achieved minus published, with intervals"
    return gap_plot(rows, title, f"{table.suite}-gaps")


def _gap_row(place: Place) -> GapRow | None:
    judgement = place.cell.judgement
    if judgement is None or judgement.interval is None or judgement.gap is None:
        return None
    cell = place.cell
    label = ", ".join(arrows(part) for part in (cell.group, cell.row, cell.column) if part)
    return GapRow(
        label=label,
        gap=judgement.gap,
        low=judgement.interval.low,
        high=judgement.interval.high,
        margin=judgement.margin or 0.0,
        tone=place.tone,
        word=place.word,
        symbol=place.symbol,
        anchor=place.anchor,
    )


def chips(comparison: Comparison) -> tuple[Chip, ...]:
    """The verdicts that came, with their counts and meanings, and the places with nothing to compare with."""
    counted = [
        Chip(verdict.slug, verdict.value, SYMBOLS[verdict], tone(verdict), count, verdict.meaning)
        for verdict, count in comparison.counts.items()
    ]
    bare = sum(not cell.references for cell in comparison.cells)
    nothing = Chip(NOTHING, NOTHING_PRINTED, symbol(None), "none", bare, "no number to compare with; ours are shown")
    return (*counted, *([nothing] if bare else ()))


def stages(coverage: Coverage) -> tuple[Stage, ...]:
    """How far the numbers have come, one bar each."""
    trained = coverage.encoded - coverage.static
    return (
        Stage("encoded", coverage.encoded, coverage.encoded, "numbers written down in a manifest"),
        Stage("statically verified", coverage.verified, coverage.static, "costs that equal the printed digits"),
        Stage("runnable", coverage.runnable, trained, "all that their experiment needs is there"),
        Stage("smoke-run", coverage.smoke_run, trained, "the path of the experiment was proven in a few steps"),
        Stage("run", coverage.run, trained, "at least one declared repetition as published"),
        Stage("judged", coverage.judged, trained, "enough repetitions for a verdict by statistics"),
        Stage("reproduced", coverage.reproduced, trained, "shown to lie within the margin"),
    )
