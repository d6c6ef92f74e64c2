"""How the report writes numbers, intervals, times and verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmark.statistics import Interval
from benchmark.verdicts import Verdict

# Beside colour and word, so that a verdict is told apart on a grey print and by any eye. Common glyphs only.
SYMBOLS: Mapping[Verdict, str] = {
    Verdict.EQUAL: "=",
    Verdict.DIFFERS: "≠",
    Verdict.NOT_RUN: "○",
    Verdict.NOT_VERIFIABLE: "–",
    Verdict.NOT_COMPARABLE: "◊",
    Verdict.PROTOCOL_MISMATCH: "×",
    Verdict.TEACHER_MISMATCH: "⊗",
    Verdict.UNSTABLE: "!",
    Verdict.INSUFFICIENT_SEEDS: "…",
    Verdict.REPRODUCED: "✓",
    Verdict.BELOW: "▼",
    Verdict.ABOVE: "▲",
    Verdict.CONSISTENT: "≈",
    Verdict.INCONCLUSIVE: "?",
    Verdict.DEPENDS_ON_EPOCH: "◐",
}
OUTCOMES: Mapping[str, tuple[str, str]] = {  # of a claim, and of an ordering: tone and symbol
    "holds": ("good", "✓"),
    "does not follow": ("bad", "≠"),
    "cannot be checked": ("none", "–"),
    "reversed": ("bad", "▼"),
    "not resolved": ("neutral", "?"),
    "insufficient seeds": ("neutral", "…"),
    "unstable": ("bad", "!"),
}
# Nothing has been judged, so no colour speaks for or against the cell.
_UNJUDGED = frozenset({Verdict.NOT_RUN, Verdict.NOT_VERIFIABLE, Verdict.NOT_COMPARABLE})
NOTHING_PRINTED = "nothing printed"


def tone(verdict: Verdict | None) -> str:
    """The colour group of a verdict: good, neutral, bad, or none where nothing was judged."""
    return "none" if verdict is None or verdict in _UNJUDGED else verdict.severity.value


def symbol(verdict: Verdict | None) -> str:
    """The sign that goes with a verdict."""
    return "·" if verdict is None else SYMBOLS[verdict]


def number(value: float | None, digits: int = 2) -> str:
    """A number with a true minus sign; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    """A difference, with its sign."""
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def cost(value: float | None) -> str:
    """A computed cost, to the digits that could matter."""
    return "–" if value is None else f"{value:.5g}"


def cost_gap(value: float | None) -> str:
    """The difference of two costs."""
    return "–" if value is None else f"{value:+.3g}".replace("-", "−")


def interval(found: Interval) -> str:
    """Both ends, signed."""
    return f"{signed(found.low)} to {signed(found.high)}"


def printed(text: str | None) -> tuple[str, str]:
    """A printed number and its spread: `72.24±0.24` as 72.24 and ±0.24."""
    value, sign, spread = (text or "–").partition("±")
    return value.replace("-", "−"), sign + spread


def arrows(text: str) -> str:
    """`->` as an arrow."""
    return text.replace("->", "→")


def duration(seconds: float) -> str:
    """Wall time as a reader would say it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 100 else f"{hours:,} h"


def plural(count: int, word: str) -> str:
    """`1 run`, `3 runs`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def commit(code: Mapping[str, Any]) -> str:
    """The revision, shortened; `+` where files that change results differ from it."""
    found = code.get("commit")
    return (str(found)[:9] if found else "unknown") + ("+" if code.get("dirty") else "")


def machine(hardware: Mapping[str, Any]) -> str:
    """The accelerator where there is one, else the processor."""
    return str(hardware.get("gpu") or hardware.get("cpu") or "unknown")


def sentence(text: str) -> str:
    """With a full stop at its end."""
    return text if not text or text[-1] in ".?!" else f"{text}."
