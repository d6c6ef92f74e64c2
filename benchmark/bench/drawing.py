"""Measured costs as a Markdown table, and as a drawing of the published gain over the measured step time."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from benchmark.bench.step_cost import Bench, Cost
from benchmark.report.markdown_table import markdown_table
from benchmark.report.svg import joined, tag, text

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 440, 62, 90, 44, 54
TICKS = 5

MEASURES = (
    "Step time: median over rounds of a method's step divided by the plain student's of the same round, with "
    "quartiles; batch, device and process are the same.",
    "Memory: what a training keeps between steps (weights, optimiser, side networks, teacher) plus the most "
    "that torch has allocated at once during a step beyond that; on a CPU from torch's profiler, on a GPU from its "
    "allocator.",
    "Counted: multiply-adds of a whole step, the student's forward once and backward twice, the teacher, and the "
    "method's own modules forward and backward.",
    "Gain: published top-1 points over the student, where a table prints the pair. Not measured here.",
)


def markdown(bench: Bench) -> str:
    """Format a table with the fastest method first, and the meaning of its columns."""
    rows = [_row(cost) for cost in sorted(bench.costs, key=lambda cost: cost.time_ratio)]
    header = ("method", "step", "time / plain", "quartiles", "memory", "memory / plain", "counted / plain", "gain")
    title = (
        f"### Cost of training, {bench.pair}, batch {bench.batch}, "
        f"{bench.device} with {bench.threads} threads, {bench.rounds} rounds"
    )
    notes = [f"- {note}" for note in MEASURES]
    notes += [f"- {name} is left out: {reason}" for name, reason in bench.skipped.items()]
    return "\n".join([title, "", markdown_table(header, rows), "", *notes]) + "\n"


def _row(cost: Cost) -> tuple[str, ...]:
    return (
        cost.method,
        f"{cost.step_ms:.1f} ms",
        f"{cost.time_ratio:.2f}",
        f"{cost.time_low:.2f} to {cost.time_high:.2f}",
        f"{cost.memory_mb:.1f} MB",
        f"{cost.memory_ratio:.2f}",
        f"{cost.counted_ratio:.2f}",
        "-" if cost.gain is None else f"{cost.gain:+.2f} ({cost.gain_source})",
    )


def svg(bench: Bench) -> str:
    """Draw the published gain (upwards) over the step time (to the right), with quartiles, as SVG.

    Return an empty string if no table prints the pair.
    """
    costs = [cost for cost in bench.costs if cost.gain is not None]
    if not costs:
        return ""
    x = _Axis([v for c in costs for v in (c.time_low, c.time_high)] + [1.0], LEFT, WIDTH - RIGHT)
    y = _Axis([c.gain for c in costs if c.gain is not None] + [0.0], HEIGHT - BOTTOM, TOP)
    parts = [*_frame(bench, x, y), *(part for cost in costs for part in _mark(cost, x, y))]
    style = "text{font:12px sans-serif;fill:#222}.t{font-size:14px}.g{stroke:#ddd}.m{stroke:#1f5fa8;fill:#1f5fa8}"
    drawing = tag(
        "svg",
        joined([tag("style", style), tag("rect", width="100%", height="100%", fill="#fff"), *parts]),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        width=WIDTH,
        height=HEIGHT,
        role="img",
        aria_label="gain against training cost",
    )
    return f"{drawing}\n"


class _Axis:
    """An axis that maps values to positions, with a little room on both sides."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        room = 0.08 * ((max(values) - min(values)) or 1.0)
        self.low, self.high = min(values) - room, max(values) + room
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        return [self.low + (self.high - self.low) * number / TICKS for number in range(TICKS + 1)]


def _frame(bench: Bench, x: _Axis, y: _Axis) -> list[Markup]:
    title = f"{bench.pair}: published gain against measured step time ({bench.device}, batch {bench.batch})"
    parts = [text(title, LEFT, 24, "t")]
    for value in x.ticks:
        parts.append(tag("line", class_="g", x1=x(value), x2=x(value), y1=TOP, y2=HEIGHT - BOTTOM))
        parts.append(text(f"{value:.2f}", x(value) - 12, HEIGHT - BOTTOM + 18))
    for value in y.ticks:
        parts.append(tag("line", class_="g", x1=LEFT, x2=WIDTH - RIGHT, y1=y(value), y2=y(value)))
        parts.append(text(f"{value:+.2f}", 16, y(value) + 4))
    parts.append(text("step time / plain student's, median and quartiles; upwards: top-1 points", LEFT, HEIGHT - 14))
    return parts


def _mark(cost: Cost, x: _Axis, y: _Axis) -> list[Markup]:
    assert cost.gain is not None
    across, up = x(cost.time_ratio), y(cost.gain)
    return [
        tag("line", class_="m", x1=x(cost.time_low), x2=x(cost.time_high), y1=up, y2=up),
        tag("circle", class_="m", cx=across, cy=up, r=4),
        text(cost.method, across + 7, up - 6),
    ]
