"""The content of the page, arranged for its templates: places on the page, words, colours and drawings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from benchmark.judge.contrasts import Gain, OrderJudgement, OrderVerdict
from benchmark.judge.sources import SourceWord
from benchmark.judge.verdicts import Verdict
from benchmark.judge.views import CellView, Comparison, Coverage, EvidenceKind, TableRow, TableView
from benchmark.report.curves import CurveFigure, curve_figures, lines_of
from benchmark.report.listing import ListedRun
from benchmark.report.paper_figures import paper_figures
from benchmark.report.plots import GapRow, gap_plot, points_each
from benchmark.report.wording import NOTHING_PRINTED, OUTCOMES, arrows, plural, symbol, tone

NOTHING_SLUG = NOTHING_PRINTED.replace(" ", "-")
_PAPERS = ("diffkd", "kdiffusion")  # in this order; tables of neither come last
_KINDS = ("table", "figure", "section")


@dataclass(frozen=True)
class PlacedCell:
    """One cell with its place on the page."""

    cell: CellView
    anchor: str
    table: str  # its number
    runs: tuple[ListedRun, ...]
    extra: tuple[ListedRun, ...]
    set_aside: tuple[ListedRun, ...]
    near: tuple[ListedRun, ...]
    figures: tuple[CurveFigure, ...]

    @property
    def tone(self) -> str:
        """Return the verdict's colour group."""
        return tone(self.cell.verdict)

    @property
    def symbol(self) -> str:
        """Return the verdict's symbol."""
        return symbol(self.cell.verdict)

    @property
    def word(self) -> str:
        """Return the verdict, or the reason why there is none."""
        if self.cell.problem:
            return "cannot be judged"
        return str(self.cell.verdict) if self.cell.verdict else NOTHING_PRINTED

    @property
    def gap_counts(self) -> bool:
        """Return True if the gap is informative: it exists and is not smaller than the printed digits show."""
        judgement = self.cell.judgement
        return judgement is not None and judgement.gap is not None and judgement.verdict is not Verdict.EQUAL

    @property
    def slugs(self) -> str:
        """Return the words that the filter by verdict looks for."""
        return " ".join(dict.fromkeys(r.judgement.verdict.slug for r in self.cell.references)) or NOTHING_SLUG

    @property
    def remark(self) -> str:
        """Return the word of a number's source if a reader should see it at once, else an empty string."""
        source = self.cell.evidence.source
        usual = (SourceWord.AS_IN_SOURCE, SourceWord.NOT_FOUND)
        return "" if source is None or source.word in usual else source.word.value

    @property
    def words(self) -> str:
        """Return the words that the filter by text searches."""
        cell = self.cell
        parts = [cell.group, cell.row, cell.column, cell.method, cell.recipe, cell.metric, cell.data, cell.standing]
        parts += [cell.evidence.word(EvidenceKind.SOURCE), cell.evidence.best]
        return " ".join(dict.fromkeys(part for part in parts if part)).lower()


@dataclass(frozen=True)
class PlacedRow:
    """One row of a table, with its cells in their columns."""

    line: TableRow
    places: tuple[PlacedCell | None, ...]


@dataclass(frozen=True)
class RowGroup:
    """The rows of one group."""

    group: str
    rows: tuple[PlacedRow, ...]


@dataclass(frozen=True)
class Readings:
    """A cell as the suite has it, and the same cell under a variant."""

    own: PlacedCell
    variant: PlacedCell


@dataclass(frozen=True)
class Section:
    """A table with its drawings, gains, orderings and variants."""

    table: TableView
    row_groups: tuple[RowGroup, ...]
    gaps: Markup | None
    drawn: int
    gains: tuple[Gain, ...]  # those with runs on both sides
    orderings: tuple[OrderJudgement, ...]  # those that could be tested
    variants: tuple[Readings, ...]
    figures: tuple[Markup, ...]  # of the paper, from this table's runs

    @property
    def places(self) -> Iterator[PlacedCell]:
        """Yield the places row by row."""
        return (place for group in self.row_groups for row in group.rows for place in row.places if place is not None)

    @property
    def name(self) -> str:
        """Return the table's name: `Table 9`, `Figure 4`, or the suite's own name."""
        return table_name(self.table.table)

    @property
    def facts(self) -> str:
        """Return the table's progress in a sentence or two."""
        table, found = self.table, self.table.coverage
        parts = [plural(found.encoded, "number")]
        if found.static:
            parts.append(f"{found.verified} of {plural(found.static, 'cost')} verified")
        parts += [f"{found.run} run", f"{found.reproduced} reproduced"]
        profile = (
            "" if table.profile == "paper" else f" Profile {table.profile}: not comparable with published numbers."
        )
        return f"{plural(table.repetitions, 'repetition')} declared. {', '.join(parts)}.{profile}"


@dataclass(frozen=True)
class Chip:
    """One verdict that the page can filter by."""

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
        """Return the bar's share in percent, 0 if there is nothing to count."""
        return 100 * self.count / self.of if self.of else 0.0


def table_name(table: str) -> str:
    """Return a table's name as headings show it, for example "Table 9" for "9"."""
    if table.isdigit():
        return f"Table {table}"
    for short in ("fig", "figure"):
        if table.startswith(short) and table[len(short) :].isdigit():
            return f"Figure {table[len(short) :]}"
    if table[:1] == "c" and table[1:].isdigit():
        return f"Section {table[0].upper()}.{table[1:]}"
    return table


def sections(comparison: Comparison, runs: Mapping[str, ListedRun], most: int) -> tuple[Section, ...]:
    """Return every table in the papers' order: tables by number, then figures, then sections.

    Each learning curve has at most `most` points.
    """
    return tuple(_section(table, runs, most) for table in sorted(comparison.tables, key=_order))


def points_of(comparison: Comparison, runs: Mapping[str, ListedRun]) -> int:
    """Return the number of epochs that each learning curve of the page is drawn with."""
    return points_each(sum(lines_of(_found(cell.runs, runs)) for cell in comparison.cells))


def _order(table: TableView) -> tuple[int, int, int, str]:
    paper = _PAPERS.index(table.paper) if table.paper in _PAPERS else len(_PAPERS)
    kind, _, digits = table_name(table.table).lower().replace("c.", "").partition(" ")
    rank = _KINDS.index(kind) if kind in _KINDS else len(_KINDS)
    return paper, rank, int(digits) if digits.isdigit() else 0, table.suite


def _section(table: TableView, runs: Mapping[str, ListedRun], most: int) -> Section:
    rows = [
        PlacedRow(
            line,
            tuple(_place(cell, table, runs, most, (y, x)) if cell else None for x, cell in enumerate(line.cells, 1)),
        )
        for y, line in enumerate(table.rows, 1)
    ]
    by_group = groupby(rows, key=lambda row: row.line.group)
    row_groups = tuple(RowGroup(group, tuple(members)) for group, members in by_group)
    drawn = [gap for row in rows for place in row.places if place is not None and (gap := _gap_row(place)) is not None]
    orders = table.orderings.judgements if table.orderings else ()
    if table.expected:
        drawn = [row for order in orders if (row := _order_row(order, table)) is not None]
    own = {(p.cell.group, p.cell.row, p.cell.column): p for row in rows for p in row.places if p is not None}
    variants = tuple(
        Readings(own[cell.group, cell.row, cell.column], _place(cell, table, runs, most, ("variant", number)))
        for number, cell in enumerate(table.variants, 1)
    )
    return Section(
        table=table,
        variants=variants,
        row_groups=row_groups,
        gaps=_differences(table, drawn),
        drawn=len(drawn),
        gains=tuple(gain for gain in table.gains if gain.achieved is not None),
        orderings=tuple(o for o in orders if o.order is not OrderVerdict.INSUFFICIENT_SEEDS),
        figures=tuple(figure.sheet.inline(f"{table.suite}-{figure.name}") for figure in paper_figures(table, runs)),
    )


def _place(
    cell: CellView, table: TableView, runs: Mapping[str, ListedRun], most: int, position: tuple[int | str, int]
) -> PlacedCell:
    anchor = f"{table.suite}-{position[0]}-{position[1]}"
    counted = _found(cell.runs, runs)
    return PlacedCell(
        cell=cell,
        anchor=anchor,
        table=table_name(table.table),
        runs=counted,
        extra=_found(cell.extra, runs),
        set_aside=_found(cell.set_aside, runs),
        near=_found(cell.near, runs),
        figures=curve_figures(cell, counted, anchor, most),
    )


def _found(ids: tuple[str, ...], runs: Mapping[str, ListedRun]) -> tuple[ListedRun, ...]:
    return tuple(runs[ident] for ident in ids if ident in runs)


def _differences(table: TableView, rows: Sequence[GapRow]) -> Markup | None:
    if not rows:
        return None
    if table.expected:
        title = f"{table_name(table.table)}: expected orderings, with intervals"
        return gap_plot(rows, title, f"{table.suite}-gaps", "first row minus second, in points")
    return gap_plot(rows, _gaps_title(table), f"{table.suite}-gaps")


def _order_row(order: OrderJudgement, table: TableView) -> GapRow | None:
    """Return an ordering as a row of the plot, or None if it could not be tested."""
    if order.difference is None or order.interval is None:
        return None
    word = order.order.value
    return GapRow(
        label=arrows(order.name),
        gap=order.difference,
        low=order.interval.low,
        high=order.interval.high,
        margin=0.0,
        tone=OUTCOMES[word][0],
        word=word,
        symbol=OUTCOMES[word][1],
        anchor=table.suite,
    )


def _gaps_title(table: TableView) -> str:
    return f"{table_name(table.table)}: achieved minus published, with intervals"


def _gap_row(place: PlacedCell) -> GapRow | None:
    """Return a cell as a row of the plot, or None if it has no interval: not run, or a cost."""
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


def legend(comparison: Comparison) -> tuple[Chip, ...]:
    """List the verdicts that occur, with their counts and meanings. Copies of a table are not counted again."""
    return tuple(_chip(verdict, count) for verdict, count in comparison.counts.items())


def chips(shown: Iterable[Section]) -> tuple[Chip, ...]:
    """List the filters, each with the number of places that it shows. Copies of a table are counted."""
    found = Counter(slug for section in shown for place in section.places for slug in place.slugs.split())
    judged = tuple(_chip(verdict, found[verdict.slug]) for verdict in Verdict if found[verdict.slug])
    bare = Chip(NOTHING_SLUG, NOTHING_PRINTED, symbol(None), "none", found[NOTHING_SLUG], "")
    return (*judged, *((bare,) if bare.count else ()))


def _chip(verdict: Verdict, count: int) -> Chip:
    return Chip(verdict.slug, verdict.value, symbol(verdict), tone(verdict), count, verdict.meaning)


def stages(coverage: Coverage) -> tuple[Stage, ...]:
    """List the stages of coverage, one bar each."""
    trained = coverage.encoded - coverage.static
    return (
        Stage("encoded", coverage.encoded, coverage.encoded, "numbers that are in a manifest"),
        Stage("statically verified", coverage.verified, coverage.static, "costs that equal the printed digits"),
        Stage("runnable", coverage.runnable, trained, "all that their experiment needs is available"),
        Stage("smoke-run", coverage.smoke_run, trained, "a run of a few steps finished"),
        Stage("run", coverage.run, trained, "at least one declared repetition as published"),
        Stage("judged", coverage.judged, trained, "enough repetitions for a verdict by statistics"),
        Stage("reproduced", coverage.reproduced, trained, "shown to lie within the margin"),
    )
