"""The report's wording of numbers, intervals, times and verdicts."""

from __future__ import annotations

from collections.abc import Mapping

from benchmark.judge.sources import SourceWord
from benchmark.judge.stats import Interval
from benchmark.judge.verdicts import Verdict
from benchmark.judge.views import EvidenceKind, EvidenceSummary

# Shown with colour and word, so that verdicts differ in grey print and without colour vision. Common glyphs only.
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
    "depends on the reading": ("neutral", "◐"),
    "does not follow": ("bad", "≠"),
    "cannot be checked": ("none", "–"),
    "reversed": ("bad", "▼"),
    "not resolved": ("neutral", "?"),
    "insufficient seeds": ("neutral", "…"),
    "unstable": ("bad", "!"),
}
SOURCE_SYMBOLS: Mapping[SourceWord, str] = {
    SourceWord.AS_IN_SOURCE: "=",
    SourceWord.DIFFERENT_SETTING: "◊",
    SourceWord.DISAGREE: "?",
    SourceWord.MISCOPIED: "≠",
    SourceWord.NOT_FOUND: "○",
}
# Nothing has been judged, so the cell gets no colour.
_UNJUDGED = frozenset({Verdict.NOT_RUN, Verdict.NOT_VERIFIABLE, Verdict.NOT_COMPARABLE})
NOTHING_PRINTED = "nothing printed"


def tone(verdict: Verdict | None) -> str:
    """Return the colour group of a verdict: good, neutral, bad, or none if nothing was judged."""
    return "none" if verdict is None or verdict in _UNJUDGED else verdict.severity.value


def symbol(verdict: Verdict | None) -> str:
    """Return the symbol of a verdict."""
    return "·" if verdict is None else SYMBOLS[verdict]


def evidence_rows(summary: EvidenceSummary) -> list[tuple[str, str, int, int]]:
    """List each kind and word with the authors' own and the copied numbers of which it is the strongest evidence."""
    own, copied = summary.best.get("authors", {}), summary.best.get("cited", {})
    return [
        (str(kind), word, own.get(kind, {}).get(word, 0), copied.get(kind, {}).get(word, 0))
        for kind in EvidenceKind
        for word in dict.fromkeys((*own.get(kind, {}), *copied.get(kind, {})))
    ]


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with a true minus sign, or a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    """Return a difference with its sign, or a dash for None."""
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def cost(value: float | None) -> str:
    """Return a computed cost with five significant digits, or a dash for None."""
    return "–" if value is None else f"{value:.5g}"


def cost_gap(value: float | None) -> str:
    """Return the difference of two costs with its sign, or a dash for None."""
    return "–" if value is None else f"{value:+.3g}".replace("-", "−")


def interval(found: Interval) -> str:
    """Return both ends of an interval, signed."""
    return f"{signed(found.low)} to {signed(found.high)}"


def printed(text: str | None) -> tuple[str, str]:
    """Split a printed number into value and spread: `72.24±0.24` gives 72.24 and ±0.24."""
    value, sign, spread = (text or "–").partition("±")
    return value.replace("-", "−"), sign + spread


def arrows(text: str) -> str:
    """Return the text with `->` as an arrow."""
    return text.replace("->", "→")


def duration(seconds: float) -> str:
    """Return a wall time in s, min or h, for example "2 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 100 else f"{hours:,} h"


def plural(count: int, word: str) -> str:
    """Return a count with its word, for example `1 run` or `3 runs`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def commit(revision: str | None, dirty: bool | None) -> str:
    """Return a revision, shortened, with `+` if files that change results differ from it."""
    return (revision[:9] if revision else "unknown") + ("+" if dirty else "")


def sentence(text: str) -> str:
    """Return the text with a full stop at its end."""
    return text if not text or text[-1] in ".?!" else f"{text}."
