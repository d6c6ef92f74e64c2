"""The words of the comparison: verdicts, and the judgement that a verdict is part of.

docs/verdicts.md says in plain words what each verdict means and how often it is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from benchmark.errors import UsageError, nearest
from benchmark.judge.stats import Interval


class Severity(StrEnum):
    """The colour group of a verdict in reports."""

    GOOD = "good"
    NEUTRAL = "neutral"
    BAD = "bad"


class Verdict(StrEnum):
    """The verdict on a cell. The value is the word that is printed."""

    EQUAL = "equal"
    DIFFERS = "differs"
    NOT_RUN = "not run"
    NOT_VERIFIABLE = "not verifiable here"
    NOT_COMPARABLE = "not comparable"
    PROTOCOL_MISMATCH = "protocol mismatch"
    TEACHER_MISMATCH = "teacher mismatch"
    UNSTABLE = "unstable"
    INSUFFICIENT_SEEDS = "insufficient seeds"
    REPRODUCED = "reproduced"
    BELOW = "below"
    ABOVE = "above"
    CONSISTENT = "consistent"
    INCONCLUSIVE = "inconclusive"
    DEPENDS_ON_EPOCH = "depends on epoch selection"

    @property
    def meaning(self) -> str:
        """Return the one-line explanation for a legend."""
        return _MEANINGS[self][1]

    @property
    def severity(self) -> Severity:
        """Return the verdict's colour group."""
        return _MEANINGS[self][0]

    @property
    def slug(self) -> str:
        """Return the verdict as command lines write it, for example `protocol-mismatch`."""
        return self.value.replace(" ", "-")

    @classmethod
    def parse(cls, text: str) -> Verdict:
        """Return a verdict by its word or its slug. A wrong one raises an error that names the nearest."""
        for verdict in cls:
            if text.strip().lower() in (verdict.value, verdict.slug):
                return verdict
        raise UsageError(f"unknown verdict {text!r}", nearest(text, (verdict.slug for verdict in cls)))


_MEANINGS: Mapping[Verdict, tuple[Severity, str]] = {
    Verdict.EQUAL: (
        Severity.GOOD,
        "a computed cost equals the printed one to its last digit, under a named convention",
    ),
    Verdict.DIFFERS: (Severity.BAD, "no convention tried gives the printed cost"),
    Verdict.NOT_RUN: (Severity.NEUTRAL, "no run of this experiment is recorded"),
    Verdict.NOT_VERIFIABLE: (Severity.NEUTRAL, "this benchmark cannot run the cell; the reason is given"),
    Verdict.NOT_COMPARABLE: (Severity.NEUTRAL, "runs exist, but under a reduced profile"),
    Verdict.PROTOCOL_MISMATCH: (Severity.BAD, "runs exist, but under another protocol than the source's"),
    Verdict.TEACHER_MISMATCH: (Severity.BAD, "the teacher used is not as accurate as the source's"),
    Verdict.UNSTABLE: (Severity.BAD, "a declared repetition diverged"),
    Verdict.INSUFFICIENT_SEEDS: (Severity.NEUTRAL, "too few repetitions to know their spread"),
    Verdict.REPRODUCED: (Severity.GOOD, "the mean is shown to lie within the margin of the published value"),
    Verdict.BELOW: (Severity.BAD, "the re-run is lower than chance between runs explains"),
    Verdict.ABOVE: (Severity.NEUTRAL, "the re-run is higher than chance between runs explains"),
    Verdict.CONSISTENT: (Severity.NEUTRAL, "chance explains the gap, and a large gap would have shown"),
    Verdict.INCONCLUSIVE: (Severity.NEUTRAL, "chance explains the gap, but it would explain a large one too"),
    Verdict.DEPENDS_ON_EPOCH: (
        Severity.NEUTRAL,
        "last and best epoch get different verdicts; the source does not say which",
    ),
}

# Rule 2: verdicts that the caller reaches from manifests and records, before any statistic.
BLOCKING = frozenset(
    {
        Verdict.NOT_RUN,
        Verdict.NOT_VERIFIABLE,
        Verdict.NOT_COMPARABLE,
        Verdict.PROTOCOL_MISMATCH,
        Verdict.TEACHER_MISMATCH,
    }
)
# Verdicts that statistics reached: rules 5 to 8.
JUDGED = frozenset(
    {
        Verdict.REPRODUCED,
        Verdict.BELOW,
        Verdict.ABOVE,
        Verdict.CONSISTENT,
        Verdict.INCONCLUSIVE,
        Verdict.DEPENDS_ON_EPOCH,
    }
)
Blocked = tuple[Verdict, str]


@dataclass(frozen=True)
class Judgement:
    """A verdict, its reason, and every number that a reader needs to doubt it."""

    verdict: Verdict
    reason: str
    n: int
    gap: float | None = None  # ours minus published
    interval: Interval | None = None  # of the gap; the published number taken as exact
    prediction: float | None = None  # half-width of the interval that a further result like the published one falls in
    margin: float | None = None
    smallest_gap_seen: float | None = None  # the true gap that would be flagged below or above with the rules' power
    convention: str | None = None  # of a static cell
    readings: Mapping[str, Judgement] = field(default_factory=dict)  # by epoch selection, where both were judged
