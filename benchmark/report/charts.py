"""Charts of the paper's figures as SVG, side by side on a sheet. Series differ by shape and stripes beside colour."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, stdev

from markupsafe import Markup

from benchmark.report.plots import (
    LETTER,
    LINE_STYLES,
    Point,
    Scale,
    drawing,
    padded,
    path_through,
    thinned,
    tick_label,
    ticks_between,
)
from benchmark.report.svg import at, joined, picture, tag, text

WIDTH, HEIGHT = 440, 300  # of a chart with its axes
LEFT, RIGHT, TOP, BOTTOM = 50, 10, 44, 58
GAP, LINE = 26, 17  # between charts, and between lines of text
ACROSS = 2  # charts side by side
BESIDE = 9.0  # of a mean: each run to the right, the published value to the left
MOST_MARKS, MOST_POINTS = 20, 60  # marks of a line, points of a line
FILLS, STRIPE = 3, 3.0  # kinds of bars that are told apart; pixels between the stripes of one
STYLE = """
.plot{font:12px sans-serif}.plot text{fill:#111}.plot .title{font-size:15px;font-weight:bold}
.plot .name{font-weight:bold}.plot .tick{fill:#333}.plot .value{font-size:10.5px}
.plot .end{text-anchor:end}.plot .middle{text-anchor:middle}
.plot .axis{stroke:#333}.plot .grid{stroke:#ddd;fill:none}.plot .level{stroke:#111;stroke-dasharray:8 4}
.line{fill:none;stroke:currentColor;stroke-width:1.6}
.line-0{color:#1d4f91}.line-1{color:#96300f;stroke-dasharray:6 2}.line-2{color:#0a5a53;stroke-dasharray:2 2}
.line-3{color:#6a4b00;stroke-dasharray:7 2 2 2}.line-4{color:#6b3a86;stroke-dasharray:1 3}
.plot .filled{fill:currentColor;stroke:currentColor;stroke-dasharray:none}
.plot .open{fill:white;stroke:currentColor;stroke-dasharray:none}
.plot .range{fill:currentColor;fill-opacity:.18;stroke:none}
.plot .bar{stroke:currentColor;color:#1d4f91;fill:white}.plot .bar-0{fill:currentColor}
""".strip()


@dataclass(frozen=True)
class Key:
    """A line of a legend: a sample, 24 x 12 pixels, and what it stands for."""

    sample: Markup
    label: str


@dataclass(frozen=True)
class Chart:
    """A drawn chart, WIDTH x HEIGHT, and the legend below it."""

    parts: tuple[Markup, ...]
    keys: tuple[Key, ...]
    described: str  # its numbers in words


@dataclass(frozen=True)
class Sheet:
    """A figure of the paper: charts under a title, with lines that say what was run."""

    title: str
    said: tuple[str, ...]
    charts: tuple[Chart, ...]

    def inline(self, ident: str) -> Markup:
        """Return the figure for a page, whose style sheet gives colours and fonts."""
        width, height, parts = self._laid_out()
        return drawing(ident, width, height, self.title, self._described, parts, "sheet")

    def file(self) -> str:
        """Return the figure as a file of its own."""
        width, height, parts = self._laid_out()
        shown = tag("g", joined(parts), class_="plot")
        return picture(self.title, self._described, width, height, STYLE, [shown])

    @property
    def _described(self) -> str:
        return " ".join((*self.said, *(chart.described for chart in self.charts)))

    def _laid_out(self) -> tuple[int, int, list[Markup]]:
        """Return the size of the whole, and its parts."""
        across = min(ACROSS, len(self.charts))
        width = across * (WIDTH + GAP) - GAP
        parts = [text(self.title, 4, 18, "title")]
        top = 18
        for said in self.said:
            for line in textwrap.wrap(said, int(width / LETTER)):
                top += LINE
                parts.append(text(line, 4, top, "tick"))
        top += GAP // 2
        for start in range(0, len(self.charts), across):
            charts = self.charts[start : start + across]
            for place, chart in enumerate(charts):
                shift = f"translate({place * (WIDTH + GAP)} {top})"
                parts.append(tag("g", joined((*chart.parts, *_legend(chart.keys))), transform=shift))
            top += HEIGHT + LINE * max(len(chart.keys) for chart in charts) + GAP // 2
        return width, top, parts


def _legend(keys: Sequence[Key]) -> Iterator[Markup]:
    for row, key in enumerate(keys):
        yield tag("g", key.sample, transform=f"translate({LEFT} {HEIGHT + LINE * row})")
        yield text(key.label, LEFT + 32, HEIGHT + LINE * row + 10, "label")


def _bar(x: float, y: float, width: float, height: float, index: int) -> Markup:
    """Return a bar that is full, striped or empty, by turns."""
    style = index % FILLS
    box = tag("rect", x=x, y=y, width=width, height=max(height, 0.0), class_=f"bar bar-{style}")
    if style != 1 or height < STRIPE:
        return box
    stripes = (y + STRIPE * number for number in range(1, int(height / STRIPE) + 1))
    return box + tag("path", d="".join(f"M{at(x)} {at(stripe)}h{at(width)}" for stripe in stripes), class_="bar")


def _bar_key(label: str, index: int) -> Key:
    return Key(_bar(1.0, 1.0, 22.0, 10.0, index), label)


def _mark(x: float, y: float, index: int) -> Markup:
    """Return a line's mark: a filled dot for the first line, an empty square for the second, and so on by turns."""
    style = f"line line-{index % LINE_STYLES}"
    if index % 2:
        return tag("rect", x=x - 3.5, y=y - 3.5, width=7, height=7, class_=f"{style} open")
    return tag("circle", cx=x, cy=y, r=3.5, class_=f"{style} filled")


def _line_key(label: str, index: int, marked: bool = True) -> Key:
    parts = [tag("path", d="M0 6h24", class_=f"line line-{index % LINE_STYLES}")]
    return Key(joined([*parts, *([_mark(12.0, 6.0, index)] if marked else [])]), label)


class _Axes:
    """The axes of a chart: y with its ticks, and x, whose `rows` of tick labels the chart itself writes."""

    left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM

    def __init__(self, low: float, high: float, y_label: str, x_label: str, name: str, rows: int = 1) -> None:
        self.y = Scale(low, high, self.bottom, self.top)
        ticks = ticks_between(low, high, 5)
        grid = "".join(f"M{at(self.left)} {at(self.y(t))}H{at(self.right)}" for t in ticks)
        self.parts = [
            tag("path", d=grid, class_="grid"),
            *(text(tick_label(t, ticks), self.left - 6, self.y(t) + 4, "tick end") for t in ticks),
            tag("line", x1=self.left, x2=self.right, y1=self.bottom, y2=self.bottom, class_="axis"),
            text(name, 4, 14, "name"),
            text(y_label, 4, 33, "label"),
            text(x_label, (self.left + self.right) / 2, self.bottom + 19 + 13 * rows, "label middle"),
        ]

    def below(self, x: float, label: str, row: int = 0) -> Markup:
        """Return a label under the axis."""
        return text(label, x, self.bottom + 15 + 13 * row, "tick middle")

    def places(self, count: int) -> list[float]:
        """Return the middles of so many equal parts of the x axis."""
        step = (self.right - self.left) / count
        return [self.left + step * (index + 0.5) for index in range(count)]


@dataclass(frozen=True)
class Spot:
    """One place on the x axis: what runs achieved there, and what was published."""

    label: str
    values: tuple[float, ...]
    published: float | None = None

    @property
    def mean(self) -> float:
        """Return the mean of the runs, of which there is at least one."""
        return fmean(self.values)

    @property
    def spread(self) -> float:
        """Return the sample standard deviation, 0 for a single run."""
        return stdev(self.values) if len(self.values) > 1 else 0.0


def spots_chart(spots: Sequence[Spot], level: Spot | None, name: str, x_label: str, y_label: str) -> Chart:
    """Draw means with their spread at evenly spaced places, the published values, and a level to compare with."""
    shown = [*spots, *([level] if level else [])]
    run = [spot for spot in shown if spot.values]
    values = [v for spot in run for v in (*spot.values, spot.mean - spot.spread, spot.mean + spot.spread)]
    values += [spot.published for spot in spots if spot.published is not None]
    axes = _Axes(*padded(min(values), max(values)), y_label, x_label, name, rows=2)
    placed = list(zip(axes.places(len(spots)), spots, strict=True))
    parts, keys = axes.parts, []
    for x, spot in placed:
        parts += [axes.below(x, spot.label), axes.below(x, f"n = {len(spot.values)}" if spot.values else "", 1)]
    if level is not None:
        y = axes.y(level.mean)
        parts.append(tag("line", x1=axes.left, x2=axes.right, y1=y, y2=y, class_="level"))
        keys.append(Key(tag("path", d="M0 6h24", class_="level"), f"{level.label}: {_with_spread(level)}"))
    published = [(x - BESIDE, axes.y(spot.published)) for x, spot in placed if spot.published is not None]
    parts += _marked_line(published, 1)
    parts += [part for x, spot in placed for part in _spread(spot, x, axes.y)]
    parts += _marked_line([(x, axes.y(spot.mean)) for x, spot in placed if spot.values], 0)
    several = any(len(spot.values) > 1 for spot in spots)
    own = "ours: mean and standard deviation, beside it each run" if several else "ours"
    keys.insert(0, _line_key(own, 0))
    if published:
        keys.insert(1, _line_key("published", 1))
    described = "; ".join(f"{spot.label}: {_with_spread(spot)}" for spot in run)
    return Chart(tuple(parts), tuple(keys), described)


def _with_spread(spot: Spot) -> str:
    spread = f" ± {spot.spread:.2f}" if len(spot.values) > 1 else ""
    return f"{spot.mean:.2f}{spread} (n = {len(spot.values)})"


def _marked_line(points: Sequence[Point], index: int) -> list[Markup]:
    line = [tag("path", d=path_through(points), class_=f"line line-{index}")] if len(points) > 1 else []
    return [*line, *(_mark(x, y, index) for x, y in points)]


def _spread(spot: Spot, x: float, y: Scale) -> list[Markup]:
    """Return the standard deviation as a bar with caps, and each run as an empty dot beside it."""
    if len(spot.values) < 2:
        return []
    low, high = y(spot.mean - spot.spread), y(spot.mean + spot.spread)
    bar = f"M{at(x - 4)} {at(low)}H{at(x + 4)}M{at(x)} {at(low)}V{at(high)}M{at(x - 4)} {at(high)}H{at(x + 4)}"
    dots = [tag("circle", cx=x + BESIDE, cy=y(value), r=2.5, class_="line line-0 open") for value in spot.values]
    return [tag("path", d=bar, class_="line line-0"), *dots]


def histogram(series: Sequence[tuple[str, Sequence[float]]], name: str, x_label: str, y_label: str) -> Chart:
    """Draw shares in per cent of equal bins between 0 and 1, the series side by side in each bin."""
    highest = max(share for _, shares in series for share in shares)
    axes = _Axes(0.0, 1.05 * highest or 1.0, y_label, x_label, name)
    bins = len(series[0][1])
    x = Scale(0, 1, axes.left, axes.right)
    wide = (x(1) - x(0)) / bins / len(series) * 0.86
    parts = axes.parts
    for index, (_, shares) in enumerate(series):
        for place, share in enumerate(shares):
            if share > 0:
                left, top = x(place / bins) + (x(1) - x(0)) / bins * 0.07 + index * wide, axes.y(share)
                parts.append(_bar(left, top, wide, axes.bottom - top, index))
    parts += [axes.below(x(tick), f"{tick:g}") for tick in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    described = "; ".join(
        f"{label}: {100 / bins:g} % bins {', '.join(f'{s:.1f}' for s in shares)}" for label, shares in series
    )
    return Chart(tuple(parts), tuple(_bar_key(label, index) for index, (label, _) in enumerate(series)), described)


@dataclass(frozen=True)
class Course:
    """A quantity over epochs of several runs: points of epoch and value."""

    label: str
    points: tuple[Point, ...]

    def means(self) -> tuple[Point, ...]:
        """Return the mean over the runs by epoch."""
        return tuple((epoch, fmean(values)) for epoch, values in self._by_epoch())

    def ranges(self) -> tuple[tuple[float, float, float], ...]:
        """Return epoch, lowest and highest value."""
        return tuple((epoch, min(values), max(values)) for epoch, values in self._by_epoch())

    def _by_epoch(self) -> list[tuple[float, list[float]]]:
        by_epoch = groupby(sorted(self.points), key=lambda point: point[0])
        return [(epoch, [value for _, value in points]) for epoch, points in by_epoch]


def courses_chart(courses: Sequence[Course], name: str, y_label: str, limits: Point) -> Chart:
    """Draw means over runs by epoch, and the range of the runs as a band. The y axis stays within the limits."""
    values = [value for course in courses for _, value in course.points]
    low, high = padded(min(values), max(values))
    axes = _Axes(max(low, limits[0]), min(high, limits[1]), y_label, "epoch", name)
    last = max(epoch for course in courses for epoch, _ in course.points)
    x = Scale(0, last, axes.left, axes.right - 6)
    parts = axes.parts + [axes.below(x(tick), tick_label(tick)) for tick in ticks_between(0, last, 5)]
    for index, course in enumerate(courses):
        style = f"line line-{index % LINE_STYLES}"
        ranges = course.ranges()
        around = [(x(e), axes.y(h)) for e, _, h in ranges] + [(x(e), axes.y(low)) for e, low, _ in reversed(ranges)]
        parts.append(tag("path", d=f"{path_through(around)}z", class_=f"{style} range"))
        points = [(x(epoch), axes.y(value)) for epoch, value in thinned(course.means(), MOST_POINTS)]
        marked = len(points) <= MOST_MARKS
        parts += _marked_line(points, index) if marked else [tag("path", d=path_through(points), class_=style)]
    marked = all(len(course.means()) <= MOST_MARKS for course in courses)
    keys = tuple(_line_key(course.label, index, marked) for index, course in enumerate(courses))
    described = "; ".join(f"{c.label}: {c.means()[0][1]:.3f} at first, {c.means()[-1][1]:.3f} at last" for c in courses)
    return Chart(tuple(parts), keys, described)


def bars_chart(groups: Sequence[tuple[str, Sequence[float]]], labels: Sequence[str], name: str, y_label: str) -> Chart:
    """Draw groups of bars between 0 and 1, each bar with its number. `labels` name the bars of a group."""
    axes = _Axes(0.0, 1.08, y_label, "network", name)
    step = (axes.right - axes.left) / len(groups)
    wide = 0.74 * step / len(labels)
    parts = axes.parts
    for middle, (group, values) in zip(axes.places(len(groups)), groups, strict=True):
        parts.append(axes.below(middle, group))
        for index, value in enumerate(values):
            left, top = middle + (index - len(labels) / 2) * wide, axes.y(value)
            parts.append(_bar(left + 1.5, top, wide - 3, axes.bottom - top, index))
            parts.append(text(f"{value:.2f}", left + wide / 2, top - 4, "value middle"))
    described = "; ".join(f"{group}: {', '.join(f'{v:.2f}' for v in values)}" for group, values in groups)
    return Chart(tuple(parts), tuple(_bar_key(label, index) for index, label in enumerate(labels)), described)
