"""Plots as inline SVG. Colours and fonts come from the page's style sheet, so one drawing serves both themes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from benchmark.report.svg import at, joined, tag, text

Point = tuple[float, float]

MOST_POINTS, FEWEST_POINTS = 60, 24  # of one line
POINTS_OF_A_PAGE = 60_000  # about half a megabyte; with more lines each gets fewer
CURVE_WIDTH, CURVE_HEIGHT = 340, 210
GAP_WIDTH, WORD_WIDTH, ROW_HEIGHT = 860, 190, 19
LETTER, LONGEST_LABEL = 6.4, 50  # width of a letter at the size of the labels, letters
LINE_STYLES = 5  # that the style sheet distinguishes


@dataclass(frozen=True)
class GapRow:
    """One cell's gap with its interval. `anchor` is the cell's own place on the page."""

    label: str
    gap: float
    low: float
    high: float
    margin: float
    tone: str
    word: str
    symbol: str
    anchor: str


@dataclass(frozen=True)
class Line:
    """One quantity over epochs."""

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class ReferenceLine:
    """A horizontal line to compare with."""

    label: str
    value: float


def gap_plot(
    rows: Sequence[GapRow], title: str, ident: str, axis: str = "achieved minus published, in points"
) -> Markup:
    """Draw every gap of a table with its interval, and the band of the margin. Rows keep their order."""
    limit, top = _gap_limit(rows), 8
    left = 14 + LETTER * min(LONGEST_LABEL, max(len(row.label) for row in rows))
    right = GAP_WIDTH - WORD_WIDTH
    bottom = top + ROW_HEIGHT * len(rows)
    x = Scale(-limit, limit, left, right)
    drawn = [_gap_row(row, x, top + ROW_HEIGHT * index) for index, row in enumerate(rows)]
    ticks = ticks_between(-limit, limit, 7)
    drawn += [
        tag("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="axis"),
        tag("line", x1=x(0), x2=x(0), y1=top, y2=bottom, class_="zero"),
        *(tag("line", x1=x(t), x2=x(t), y1=bottom, y2=bottom + 4, class_="axis") for t in ticks),
        *(text(_signed(t, ticks), x(t), bottom + 16, "tick middle") for t in ticks),
        text(axis, (left + right) / 2, bottom + 33, "label middle"),
    ]
    described = "; ".join(f"{row.label}: {row.gap:+.2f}, {row.word}" for row in rows)
    return drawing(ident, GAP_WIDTH, bottom + 40, title, described, drawn, "gaps")


def _gap_limit(rows: Sequence[GapRow]) -> float:
    """Return the limit of the axis: it contains every gap, and every interval that is not far wider than the gaps."""
    gaps = max(abs(row.gap) for row in rows)
    ends = max(max(abs(row.low), abs(row.high)) for row in rows)
    margins = max(row.margin for row in rows)
    needed = max(1.15 * gaps, 2 * margins)
    return max(needed, min(1.08 * ends, 2 * needed)) or 1.0


def _gap_row(row: GapRow, x: Scale, top: float) -> Markup:
    middle, limit, word_left = top + ROW_HEIGHT / 2, x.high, GAP_WIDTH - WORD_WIDTH + 10
    low, high = max(row.low, -limit), min(row.high, limit)
    parts = [
        tag("path", d=_box(x(-row.margin), top, x(row.margin), top + ROW_HEIGHT), class_="band"),
        text(_cut(row.label), x(-limit) - 10, middle + 4, "label end"),
        tag("line", x1=x(low), x2=x(high), y1=middle, y2=middle, class_="interval"),
        _end(x(low), middle, cut=row.low < -limit, direction=-1),
        _end(x(high), middle, cut=row.high > limit, direction=1),
        tag("circle", cx=x(row.gap), cy=middle, r=3.8, class_="dot"),
        text(tag("tspan", row.symbol, class_="sign") + f" {row.word}", word_left, middle + 4, "word"),
    ]
    drawn = tag("g", joined(parts), class_=f"tone-{row.tone}")
    return tag("a", drawn, href=f"#{row.anchor}", class_="gap-row", tabindex="-1")


def _end(x: float, y: float, *, cut: bool, direction: int) -> Markup:
    """Draw the end of an interval: a cap, or an arrow if the interval continues outside the drawing."""
    if cut:
        back = x - 6 * direction
        path = f"M{at(back)} {at(y - 4)}L{at(x)} {at(y)}L{at(back)} {at(y + 4)}"
    else:
        path = f"M{at(x)} {at(y - 4)}V{at(y + 4)}"
    return tag("path", d=path, class_="interval")


def _box(left: float, top: float, right: float, bottom: float) -> str:
    return f"M{at(left)} {at(top)}H{at(right)}V{at(bottom)}H{at(left)}Z"


def _cut(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"


class Scale:
    """The map from values to positions along an axis, linear or logarithmic."""

    def __init__(self, low: float, high: float, start: float, end: float, *, log: bool = False) -> None:
        self.high = high
        self._read = math.log10 if log else float
        self._low, self._span = self._read(low), self._read(high) - self._read(low)
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        """Return the position of a value."""
        return self._start + (self._end - self._start) * (self._read(value) - self._low) / self._span


def points_each(lines: int) -> int:
    """Return the largest number of points for each line of a page that has so many lines."""
    return max(FEWEST_POINTS, min(MOST_POINTS, POINTS_OF_A_PAGE // max(1, lines)))


def curve_plot(
    lines: Sequence[Line],
    title: str,
    ident: str,
    y_label: str,
    most: int,
    levels: Sequence[ReferenceLine] = (),
    *,
    log: bool = False,
) -> Markup:
    """Draw quantities over epochs, each thinned to `most` points.

    The axis is logarithmic only if asked and possible.
    """
    points = [point for line in lines for point in line.points]
    values = [value for _, value in points] + [level.value for level in levels]
    log = log and min(values) > 0
    low, high = padded(min(values), max(values), log)
    left, right, top, bottom = 46, CURVE_WIDTH - 8, 22, CURVE_HEIGHT - 34
    last = max(epoch for epoch, _ in points)
    x = Scale(0, max(last, 1), left, right)
    y = Scale(low, high, bottom, top, log=log)
    y_ticks = decades_between(low, high) if log else ticks_between(low, high, 5)
    parts = [
        tag(
            "path",
            d="".join(f"M{at(left)} {at(y(t))}H{at(right)}" for t in y_ticks),
            class_="grid",
        ),
        *(text(tick_label(t, () if log else y_ticks), left - 6, y(t) + 4, "tick end") for t in y_ticks),
        tag("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="axis"),
        *(text(tick_label(t), x(t), bottom + 14, "tick middle") for t in ticks_between(0, last, 5)),
        text("epoch", (left + right) / 2, CURVE_HEIGHT - 5, "label middle"),
        text(y_label, left, 12, "label"),
        *(_drawn_line(line, x, y, index, most) for index, line in enumerate(lines)),
        *(_level(level, left, right, y) for level in levels),
    ]
    return drawing(ident, CURVE_WIDTH, CURVE_HEIGHT, title, "", parts, "curve")


def _drawn_line(line: Line, x: Scale, y: Scale, index: int, most: int) -> Markup:
    kept = thinned(line.points, most)
    style = f"line line-{index % LINE_STYLES}"
    if len(kept) == 1:
        return tag("circle", cx=x(kept[0][0]), cy=y(kept[0][1]), r=2, class_=style)
    return tag("path", d=path_through([(x(epoch), y(value)) for epoch, value in kept]), class_=style)


def path_through(points: Sequence[Point]) -> str:
    """Return a path of relative steps in tenths: a third shorter than absolute positions, without rounding drift."""
    tenths = [(round(10 * x), round(10 * y)) for x, y in points]
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(tenths)]
    start = f"M{at(tenths[0][0] / 10)} {at(tenths[0][1] / 10)}l"
    return start + " ".join(f"{at(dx / 10)} {at(dy / 10)}".replace(" -", "-") for dx, dy in steps)


def _level(level: ReferenceLine, left: float, right: float, y: Scale) -> Markup:
    height = y(level.value)
    line = tag("line", x1=left, x2=right, y1=height, y2=height, class_="level")
    return joined([line, text(level.label, right, height - 4, "tick end")])


def padded(low: float, high: float, log: bool = False) -> Point:
    """Return the limits of an axis that shows these values with some room around them."""
    if log:
        return low / 1.15, high * 1.15
    pad = 0.06 * (high - low) or max(0.5, abs(high) * 0.01)
    return low - pad, high + pad


def thinned(points: Sequence[Point], most: int) -> tuple[Point, ...]:
    """Return at most `most` points, evenly spaced, with the first, the last and the highest among them."""
    if len(points) <= most:
        return tuple(points)
    step = (len(points) - 1) / (most - 2)
    kept = {round(step * index) for index in range(most - 1)} | {max(range(len(points)), key=lambda i: points[i][1])}
    return tuple(points[index] for index in sorted(kept))


def ticks_between(low: float, high: float, about: int) -> tuple[float, ...]:
    """Return round numbers within the range, in steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return (low,)
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda step: abs(math.log(step / raw)))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return tuple(round(index * step, 10) for index in range(first, last + 1))


def decades_between(low: float, high: float) -> tuple[float, ...]:
    """Return 1, 2 and 5 times every power of ten in the range, or only the powers if there would be more than six."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    found = tuple(value for value in fine if low <= value <= high)
    return found if len(found) <= 6 else tuple(value for value in found if math.log10(value) % 1 == 0)


def _decimals(ticks: Iterable[float]) -> int:
    return max((len(f"{tick:.6f}".rstrip("0").partition(".")[2]) for tick in ticks), default=0)


def _signed(value: float, ticks: Sequence[float]) -> str:
    return "0" if value == 0 else f"{value:+.{_decimals(ticks)}f}".replace("-", "−")


def tick_label(value: float, ticks: Sequence[float] = ()) -> str:
    """Return a tick's number with as many decimals as the axis's other ticks have."""
    return f"{value:.{_decimals(ticks)}f}" if ticks and _decimals(ticks) <= 3 else f"{value:g}"


def drawing(
    ident: str, width: float, height: float, title: str, described: str, parts: Iterable[Markup], kind: str
) -> Markup:
    """Return a drawing for a page, with its title and its numbers in words for those who do not see it."""
    names, labels = tag("title", title, id=f"{ident}-t"), {"aria_labelledby": f"{ident}-t"}
    if described:
        names += tag("desc", described, id=f"{ident}-d")
        labels["aria_describedby"] = f"{ident}-d"
    size = {
        "viewBox": f"0 0 {at(width)} {at(height)}",
        "width": at(width),
        "height": at(height),
    }
    return tag("svg", names + joined(parts), class_=f"plot {kind}", role="img", **size, **labels)
