"""The numbers behind one verdict: gap, interval, prediction interval and the smallest gap that would have shown.

Signs: every gap is ours minus published, so a negative gap says that the re-run is worse if higher is better.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmark.judge import stats
from benchmark.judge.samples import Published, PublishedGain, Sample
from benchmark.judge.stats import Difference, Interval
from benchmark.judge.verdicts import Judgement, Verdict
from benchmark.paper.rules import Rules, Scale


@dataclass(frozen=True)
class MeasuredGap:
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
        """Return the margin within which a gap does not matter."""
        return self.scale.margin.value

    @property
    def widest(self) -> float:
        """Return the widest prediction interval that would have shown a gap that matters."""
        return self.rules.consistent_within.value * self.margin

    @property
    def prediction(self) -> float:
        """Return the half-width of the prediction interval."""
        level = self.rules.levels.prediction.value
        return stats.prediction_half_width(self.error, self.df, self.rounding, level)

    @property
    def smallest_gap_seen(self) -> float:
        """Return the true gap that would be flagged below or above with the rules' power."""
        level, power = self.rules.levels.prediction.value, self.rules.levels.power.value
        return stats.smallest_detectable_gap(self.error, self.df, self.rounding, level, power)

    @property
    def gap_text(self) -> str:
        """Return the gap in words, for a reason."""
        return f"the gap of {self.gap:+.2f}"

    @property
    def interval_text(self) -> str:
        """Return the interval of the gap in words."""
        low, high, level = self.interval.low, self.interval.high, self.interval.level
        return f"the {level:.0%} interval of the gap, {low:+.2f} to {high:+.2f},"

    @property
    def prediction_text(self) -> str:
        """Return the prediction interval in words, with how the published side was read."""
        level = self.rules.levels.prediction.value
        return f"the {level:.0%} prediction interval of ±{self.prediction:.2f}{self.against}"

    def judgement(self, verdict: Verdict, reason: str) -> Judgement:
        """Return a verdict with all of these numbers."""
        return Judgement(
            verdict, reason, self.n, self.gap, self.interval, self.prediction, self.margin, self.smallest_gap_seen
        )


def measure(published: Published, achieved: Sample, scale: Scale, rules: Rules) -> MeasuredGap | None:
    """Return the numbers of one cell, or None without any value.

    With fewer repetitions than the rules ask for, an assumed spread takes the place of the sample's own.
    """
    if not achieved.values:
        return None
    level, df = rules.levels.equivalence.value, math.inf
    if achieved.n < rules.least:
        spread, _ = assumed_spread(published, scale)
        gap = stats.mean(achieved.values) - published.value
        interval = stats.known_spread_interval(gap, spread, achieved.n, level)
    else:
        spread, df = stats.spread(achieved.values, scale.spread_floor.value), achieved.n - 1
        interval = stats.gap_interval(achieved.values, published.value, level)
        gap = interval.middle
    error = stats.prediction_error(spread, achieved.n, published.runs or 1)
    against = "" if published.runs else ", the published value taken as one run"
    return MeasuredGap(achieved.n, gap, interval, error, df, published.rounding, against, scale, rules)


def assumed_spread(published: Published, scale: Scale) -> tuple[float, str]:
    """Return an assumed spread and its origin, for too few runs: the cell's own printed one, else the data set's."""
    if published.std is not None and published.std >= scale.spread_floor.value:
        return published.std, "the source prints for this cell"
    return scale.typical_spread.value, f"is typical of {scale.data}"


def measure_gain(
    published: PublishedGain, ours: Sample, base: Sample, difference: Difference, scale: Scale, rules: Rules
) -> MeasuredGap:
    """Return the numbers of one gain: our `difference` of two means against the published one."""
    # The interval is that of the values as they are; only the prediction interval, which can condemn, has the floor.
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
    return MeasuredGap(difference.n, gap, interval, error, floored.df, published.rounding, against, scale, rules)


def mean_difference(ours: Sample, base: Sample, rules: Rules, floor: float = 0.0) -> Difference | None:
    """Return the difference of two means: paired on common repetitions, else Welch's. None if both have too few."""
    level = rules.levels.equivalence.value
    common = sorted(set(ours.numbers) & set(base.numbers))
    if len(common) >= rules.least:
        return stats.paired_difference(ours.at(common), base.at(common), level, floor)
    if min(ours.n, base.n) >= rules.least:
        return stats.welch_difference(ours.values, base.values, level, floor)
    return None
