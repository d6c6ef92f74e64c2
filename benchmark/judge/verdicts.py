"""The verdict on one published number: the first rule that holds, and the numbers behind it.

Everything here is pure: callers read records and manifests; margins, floors and levels come from suites/rules.yaml.
docs/verdicts.md says in plain words what each verdict means and how often it is wrong.

Signs: every gap is ours minus published, so a negative gap says that the re-run is worse if higher is better. Higher is
better for every metric judged here (accuracies, AP, mIoU, all in percent). Costs, where lower is better, are static
cells, which are only equal or different.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Literal

from benchmark.errors import UsageError, nearest
from benchmark.judge import stats
from benchmark.judge.stats import Difference, Interval
from benchmark.paper.rules import Rules, Scale

Selection = Literal["last", "best", "unknown"]


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
# Where the runs are of the cell's own experiment, or near it, its gap is worth showing beside the verdict.
_SHOWN_WHEN_BLOCKED = frozenset({Verdict.PROTOCOL_MISMATCH, Verdict.TEACHER_MISMATCH})
Blocked = tuple[Verdict, str]


@dataclass(frozen=True)
class Published:
    """A published number as its source prints it, in percent."""

    value: float
    digits: int  # after the decimal point: how far rounding may have moved it
    data: str
    metric: str
    std: float | None = None
    runs: int | None = None  # of which it is the mean; None where the source does not say, judged as one

    def __post_init__(self) -> None:
        _check_percent((self.value,), f"published {self.data} {self.metric}")
        if self.digits < 0 or round(self.value, self.digits) != self.value:
            raise UsageError(
                f"published {self.data} {self.metric}: {self.value} is not printed with {self.digits} digits",
                "count the digits after the decimal point of the printed number",
            )
        if self.std is not None and not (math.isfinite(self.std) and self.std >= 0):
            raise UsageError(f"published {self.data} {self.metric}: a spread of {self.std}", "leave it out if unknown")
        if self.runs is not None and self.runs < 1:
            raise UsageError(f"published {self.data} {self.metric}: {self.runs} runs", "leave it out if unknown")

    @property
    def rounding(self) -> float:
        """Return half of the last printed digit."""
        return stats.half_digit(self.digits)


@dataclass(frozen=True)
class Achieved:
    """The results of one experiment's declared repetitions: each finished one's metric in percent, and the failures.

    `diverged` counts the failures. `repetitions` are the values' numbers, 0, 1, ... unless given; gains and orderings
    pair by them. `declared` is the number that the manifest asks for; the caller must leave out extras.
    """

    values: tuple[float, ...]
    diverged: int = 0
    repetitions: tuple[int, ...] | None = None
    declared: int | None = None

    def __post_init__(self) -> None:
        _check_percent(self.values, "achieved values")
        if self.diverged < 0:
            raise UsageError(f"{self.diverged} diverged repetitions", "count the records that are marked diverged")
        numbers = self.numbers
        if len(numbers) != len(self.values) or len(set(numbers)) != len(numbers):
            raise UsageError(
                f"repetitions {numbers} do not number {len(self.values)} values", "one number a value, none twice"
            )
        if self.declared is not None and self.n + self.diverged > self.declared:
            raise UsageError(
                f"{self.n + self.diverged} repetitions where {self.declared} are declared",
                "leave later extras out: they change no verdict",
            )

    @property
    def n(self) -> int:
        """Return the number of repetitions that finished."""
        return len(self.values)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Return the repetition number of each value."""
        return self.repetitions if self.repetitions is not None else tuple(range(len(self.values)))

    def at(self, repetitions: Iterable[int]) -> tuple[float, ...]:
        """Return the values of these repetitions, in their order."""
        found = dict(zip(self.numbers, self.values, strict=True))
        return tuple(found[number] for number in repetitions)


def _check_percent(values: Sequence[float], what: str) -> None:
    stats.checked(values, 0, what)
    for position, value in enumerate(values):
        if not 0 <= value <= 100:
            raise UsageError(
                f"{what}: value {position} is {value}, not a percentage",
                "metrics are in percent, from 0 to 100; mend the record or the manifest",
            )


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


@dataclass(frozen=True)
class _Measured:
    """The numbers that rules 4 to 8 use."""

    n: int
    gap: float  # ours minus published
    interval: Interval  # of the gap
    error: float  # standard error of the gap, the published runs' part included
    df: float  # degrees of freedom of that error
    rounding: float  # the most that printing may have moved the published number
    against: str  # how the published side was read
    scale: Scale
    rules: Rules

    @property
    def margin(self) -> float:
        return self.scale.margin.value

    @property
    def prediction(self) -> float:
        level = self.rules.levels.prediction.value
        return stats.prediction_half_width(self.error, self.df, self.rounding, level)

    @property
    def smallest_gap_seen(self) -> float:
        levels = self.rules.levels
        return stats.smallest_detectable_gap(
            self.error, self.df, self.rounding, levels.prediction.value, levels.power.value
        )

    def judgement(self, verdict: Verdict, reason: str) -> Judgement:
        return Judgement(
            verdict, reason, self.n, self.gap, self.interval, self.prediction, self.margin, self.smallest_gap_seen
        )


def judge(published: Published, achieved: Achieved, rules: Rules, blocked: Blocked | None = None) -> Judgement:
    """Return the judgement by the first rule that holds, for a cell that is measured by training.

    `blocked` is rule 2: a verdict that the caller has reached already, with its reason. It has priority over all
    others. Its gap is shown if the runs are near enough to the cell's own experiment for the gap to mean something.
    """
    scale = rules.scale(published.data, published.metric)
    measured = _measure(published, achieved, scale, rules)
    if blocked is not None:
        return _blocked(blocked, achieved.n, measured)
    if achieved.diverged:
        return _unstable(achieved.diverged, achieved.n, measured)
    if measured is None:
        return Judgement(Verdict.NOT_RUN, "no repetition is recorded", 0)
    if achieved.n < rules.least:
        known, origin = _assumed_spread(published, scale)
        return measured.judgement(
            Verdict.INSUFFICIENT_SEEDS,
            f"{_runs(achieved.n)} of at least {rules.least}; as an indication, not a verdict: the gap of "
            f"{measured.gap:+.2f} is {abs(measured.gap) / known:.1f} times the spread of {known:.2f} that {origin}",
        )
    return _noted(_decide(measured, rules), achieved)


def _measure(published: Published, achieved: Achieved, scale: Scale, rules: Rules) -> _Measured | None:
    if not achieved.values:
        return None
    level, df = rules.levels.equivalence.value, math.inf
    if achieved.n < rules.least:
        spread, _ = _assumed_spread(published, scale)
        gap = stats.mean(achieved.values) - published.value
        interval = stats.known_spread_interval(gap, spread, achieved.n, level)
    else:
        spread, df = stats.spread(achieved.values, scale.spread_floor.value), achieved.n - 1
        interval = stats.gap_interval(achieved.values, published.value, level)
        gap = interval.middle
    error = stats.prediction_error(spread, achieved.n, published.runs or 1)
    against = "" if published.runs else ", the published value taken as one run"
    return _Measured(achieved.n, gap, interval, error, df, published.rounding, against, scale, rules)


def _assumed_spread(published: Published, scale: Scale) -> tuple[float, str]:
    """Return an assumed spread and its origin, for too few runs: the cell's own printed one, else the data set's."""
    if published.std is not None and published.std >= scale.spread_floor.value:
        return published.std, "the source prints for this cell"
    return scale.typical_spread.value, f"is typical of {scale.data}"


def _blocked(blocked: Blocked, n: int, measured: _Measured | None) -> Judgement:
    verdict, reason = blocked
    if verdict not in BLOCKING:
        raise UsageError(f"{verdict.value!r} cannot be decided before the runs are looked at", "leave it to the rules")
    if measured is None or verdict not in _SHOWN_WHEN_BLOCKED:
        return Judgement(verdict, reason, n)
    return measured.judgement(verdict, reason)


def _unstable(diverged: int, n: int, measured: _Measured | None) -> Judgement:
    reason = f"{diverged} of {diverged + n} repetitions diverged"
    if measured is None:
        return Judgement(Verdict.UNSTABLE, reason, 0)
    return measured.judgement(Verdict.UNSTABLE, f"{reason}; the gap is that of the others")


def _decide(measured: _Measured, rules: Rules) -> Judgement:
    """Apply rules 5 to 8."""
    interval, gap, reach, margin = measured.interval, measured.gap, measured.prediction, measured.margin
    spanned = f"the {interval.level:.0%} interval of the gap, {interval.low:+.2f} to {interval.high:+.2f},"
    chance = f"the {rules.levels.prediction.value:.0%} prediction interval of ±{reach:.2f}{measured.against}"
    if stats.equivalent(interval, margin):
        return measured.judgement(Verdict.REPRODUCED, f"{spanned} lies inside the margin of ±{margin:.2f}")
    if abs(gap) > reach:
        verdict = Verdict.BELOW if gap < 0 else Verdict.ABOVE
        return measured.judgement(verdict, f"the gap of {gap:+.2f} is outside {chance}")
    widest = rules.consistent_within.value * margin
    if reach <= widest:
        return measured.judgement(
            Verdict.CONSISTENT,
            f"the gap of {gap:+.2f} is inside {chance}, which is no wider than ±{widest:.2f}; "
            f"{spanned} is not inside the margin of ±{margin:.2f}",
        )
    return measured.judgement(
        Verdict.INCONCLUSIVE,
        f"the gap of {gap:+.2f} is inside {chance}, which is wider than ±{widest:.2f} and could hide one that matters",
    )


def _noted(judgement: Judgement, achieved: Achieved) -> Judgement:
    """Return the judgement with notes on the sample: repetitions that are missing, or values that are all the same."""
    notes = []
    if achieved.declared is not None and achieved.n < achieved.declared:
        notes.append(f"{achieved.n} of {achieved.declared} declared repetitions are recorded")
    if len(set(achieved.values)) == 1:
        notes.append("all repetitions gave the same value: were they different runs?")
    return replace(judgement, reason="; ".join((judgement.reason, *notes)))


def _runs(count: int) -> str:
    return f"{count} repetition{'s' if count != 1 else ''}"


def judge_epochs(
    published: Published,
    last: Achieved,
    best: Achieved,
    selection: Selection,
    rules: Rules,
    blocked: Blocked | None = None,
) -> Judgement:
    """Return the verdict under the source's epoch selection. If that is unknown, the verdicts under both must agree.

    If both agree, the last epoch's numbers are shown: choosing the best epoch uses the test set.
    """
    if selection != "unknown":
        return judge(published, last if selection == "last" else best, rules, blocked)
    readings = {"last": judge(published, last, rules, blocked), "best": judge(published, best, rules, blocked)}
    by_last, by_best = readings["last"], readings["best"]
    if by_last.verdict is by_best.verdict:
        note = "" if by_last.gap is None else "; the best epoch gets the same verdict"
        return replace(by_last, reason=by_last.reason + note, readings=readings)
    reason = (
        f"the source does not say which epoch it reports: {by_last.verdict} by the last ({_signed(by_last.gap)}), "
        f"{by_best.verdict} by the best ({_signed(by_best.gap)})"
    )
    return replace(by_last, verdict=Verdict.DEPENDS_ON_EPOCH, reason=reason, readings=readings)


def _signed(gap: float | None) -> str:
    return "no gap" if gap is None else f"gap {gap:+.2f}"


def judge_static(printed: str, candidates: Mapping[str, float]) -> Judgement:
    """Apply rule 1: compare a printed cost with each counting convention's value, in the printed unit.

    Conventions come in order of preference. Equal means that the value rounds to the printed digits (a tie may round
    either way). The more conventions are tried, the easier one fits, so the reason says how many were.
    """
    text = printed.strip().replace(",", "")
    try:
        target = Decimal(text)
    except InvalidOperation:
        target = Decimal("nan")
    if not target.is_finite():
        raise UsageError(f"{printed!r} is no printed number", "write it as printed, without its unit: 61.1")
    if not candidates:
        return Judgement(Verdict.NOT_RUN, "no convention was tried", 0)
    stats.checked(tuple(candidates.values()), 1, f"costs for {printed}")
    half = Decimal(1).scaleb(int(target.as_tuple().exponent)) / 2
    gaps = {name: Decimal(repr(float(value))) - target for name, value in candidates.items()}
    tried = f"{len(gaps)} convention{'s' if len(gaps) != 1 else ''} tried"
    equal = [name for name, gap in gaps.items() if abs(gap) <= half]
    chosen = equal[0] if equal else min(gaps, key=lambda name: abs(gaps[name]))
    value, gap = candidates[chosen], float(gaps[chosen])
    if equal:
        also = f", also under {', '.join(equal[1:])}" if equal[1:] else ""
        verdict, reason = Verdict.EQUAL, f"{value:.6g} rounds to {text} under {chosen}{also}; {tried}"
    else:
        verdict, reason = Verdict.DIFFERS, f"nearest is {value:.6g} under {chosen}, off by {gap:+.3g}; {tried}"
    return Judgement(verdict, reason, 0, gap, margin=float(half), smallest_gap_seen=float(half), convention=chosen)


@dataclass(frozen=True)
class PublishedGain:
    """The difference between two published rows, in points. `rounding` is the most that printing may have moved it."""

    value: float
    rounding: float
    data: str
    metric: str
    runs_ours: int | None = None
    runs_base: int | None = None

    @classmethod
    def between(cls, ours: Published, base: Published) -> PublishedGain:
        """Return the gain of one cell over another. Both must be in one metric of one data set."""
        if (ours.data, ours.metric) != (base.data, base.metric):
            raise UsageError(
                f"no gain between {ours.data} {ours.metric} and {base.data} {base.metric}",
                "both cells must be in one metric of one data set",
            )
        # 72.22 - 70.58 is 1.6400000000000006; the printed digits say 1.64
        value = round(ours.value - base.value, max(ours.digits, base.digits))
        return cls(value, ours.rounding + base.rounding, ours.data, ours.metric, ours.runs, base.runs)


def judge_gain(
    published: PublishedGain, ours: Achieved, base: Achieved, rules: Rules, blocked: Blocked | None = None
) -> Judgement:
    """Compare our gain (mean of ours less mean of base) with the published gain, by the same rules 3 to 8.

    Repetitions are paired if at least the minimum number is common to both, else Welch's test uses all. The published
    gain is taken as that of unpaired runs, as many as its rows state (one if they do not), with the spreads of ours.
    """
    scale = rules.scale(published.data, published.metric)
    difference = mean_difference(ours, base, rules)
    measured = None if difference is None else _measure_gain(published, ours, base, difference, scale, rules)
    n = min(ours.n, base.n) if difference is None else difference.n
    if blocked is not None:
        return _blocked(blocked, n, measured)
    if ours.diverged or base.diverged:
        return _unstable(ours.diverged + base.diverged, ours.n + base.n, measured)
    if measured is None:
        if not (ours.n and base.n):
            return Judgement(Verdict.NOT_RUN, "no repetition is recorded of one of the two", n)
        gap = stats.mean(ours.values) - stats.mean(base.values) - published.value
        reason = f"{ours.n} and {_runs(base.n)}, of at least {rules.least} each"
        return Judgement(Verdict.INSUFFICIENT_SEEDS, reason, n, gap, margin=scale.margin.value)
    decided = _decide(measured, rules)
    how = f"paired on {difference.n} repetitions" if difference and difference.paired else "unpaired (Welch)"
    return replace(decided, reason=f"{decided.reason}; {how}")


def mean_difference(ours: Achieved, base: Achieved, rules: Rules, floor: float = 0.0) -> Difference | None:
    """Return the difference of two means: paired on common repetitions, else Welch's. None if both have too few."""
    level = rules.levels.equivalence.value
    common = sorted(set(ours.numbers) & set(base.numbers))
    if len(common) >= rules.least:
        return stats.paired_difference(ours.at(common), base.at(common), level, floor)
    if min(ours.n, base.n) >= rules.least:
        return stats.welch_difference(ours.values, base.values, level, floor)
    return None


def _measure_gain(
    published: PublishedGain, ours: Achieved, base: Achieved, difference: Difference, scale: Scale, rules: Rules
) -> _Measured:
    floor = scale.spread_floor.value
    floored = mean_difference(ours, base, rules, floor)
    assert floored is not None  # the same samples gave a difference without a floor
    theirs = sum(
        stats.spread(side.values, floor) ** 2 / (runs or 1)
        for side, runs in ((ours, published.runs_ours), (base, published.runs_base))
    )
    error = math.hypot(floored.standard_error, math.sqrt(theirs))
    unknown = published.runs_ours is None or published.runs_base is None
    against = ", published values taken as one run" if unknown else ""
    gap, interval = difference.value - published.value, difference.interval.less(published.value)
    return _Measured(difference.n, gap, interval, error, floored.df, published.rounding, against, scale, rules)
