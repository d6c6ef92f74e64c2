"""The statistics behind the verdicts: pure functions over small samples of one metric, one value for each repetition.

Every function names its source, what it assumes, and where it stops being trustworthy. The quantiles and the tests
are scipy's; what scipy lacks (Holm's adjustment, the smallest gap that a sample can see) is implemented here. The
error rates of the rules that are built on top are in docs/verdicts.md.

Assumed throughout: repetitions are independent runs of one experiment, and their metric is near normal. The first
fails when two records come from one seed; the second hardly matters for a mean of five, and cannot be checked at
three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, stats

from benchmark.errors import UsageError

ARITHMETIC = 1e-9  # far below any printed digit, far above what floating point adds: 0.8 - 0.5 is 0.30000000000000004
MANN_WHITNEY_LEAST = 4  # at 3 + 3 the smallest two-sided p is 0.1: the test could never reject at 5 %


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval; `level` is its coverage (0.90 is 90 %)."""

    low: float
    high: float
    level: float

    @property
    def half_width(self) -> float:
        """Return half of the interval's length."""
        return (self.high - self.low) / 2

    @property
    def middle(self) -> float:
        """Return the point halfway between both ends."""
        return (self.low + self.high) / 2

    @classmethod
    def around(cls, value: float, half_width: float, level: float) -> Interval:
        """Return the interval `value` ± `half_width`."""
        return cls(value - half_width, value + half_width, level)

    def less(self, value: float) -> Interval:
        """Return the interval with `value` subtracted from both ends."""
        return Interval(self.low - value, self.high - value, self.level)


@dataclass(frozen=True)
class Difference:
    """A difference of two means, with its standard error and degrees of freedom for further tests."""

    value: float
    interval: Interval
    standard_error: float
    df: float
    paired: bool
    n: int


@dataclass(frozen=True)
class TwoSampleTest:
    """The result of a two-sided test of two samples. `effect` is positive if the first sample is the larger one."""

    test: str
    p_value: float
    effect: float
    n: tuple[int, int]


@dataclass(frozen=True)
class FalseFlags:
    """The effect of chance alone on a table: the expected number of flags, and the chance of one or more."""

    expected: float
    any: float


def checked(values: Sequence[float], least: int, what: str = "metric values") -> tuple[float, ...]:
    """Return the values as floats.

    Raise an error that names a value that is no number, or the number of missing values.
    """
    numbers = tuple(float(value) for value in values)
    for position, number in enumerate(numbers):
        if not math.isfinite(number):
            raise UsageError(
                f"{what}: value {position} is {number}, not a finite number",
                "mark the run as diverged, or fix its record; no statistic is computed over such a value",
            )
    if len(numbers) < least:
        raise UsageError(f"{what}: {len(numbers)} given, at least {least} needed", "run more repetitions")
    return numbers


def beyond(value: float, limit: float) -> bool:
    """Return True if a value is over a limit by more than the arithmetic's own rounding."""
    return value > limit + ARITHMETIC


def mean(values: Sequence[float]) -> float:
    """Return the mean of at least one value. The sum is exact, so the order of the values does not matter."""
    return math.fsum(checked(values, 1)) / len(values)


def spread(values: Sequence[float], floor: float = 0.0) -> float:
    """Return the sample standard deviation, divisor n - 1, but at least `floor`.

    It is exactly 0 for identical values without a floor.
    """
    numbers = checked(values, 2)
    # numpy's would be rounding noise, about 1e-14, for some identical values: too small, and not 0.
    found = 0.0 if min(numbers) == max(numbers) else float(np.std(numbers, ddof=1))
    return max(found, floor)


@lru_cache(maxsize=4096)
def t_quantile(level: float, df: float) -> float:
    """Return Student's t (df = inf: the normal) that leaves (1 - level) / 2 above it."""
    if not 0 < level < 1:
        raise UsageError(f"a level must lie between 0 and 1, got {level}", "write 90 % as 0.90")
    upper = (1 + level) / 2
    return float(stats.norm.ppf(upper) if math.isinf(df) else stats.t.ppf(upper, df))


def mean_interval(values: Sequence[float], level: float) -> Interval:
    """Return Student's t interval of a mean: mean +- t s / sqrt(n).

    Source: Student, "The probable error of a mean", Biometrika 6 (1908). Assumes independent, near normal values.
    Limit: with zero spread its width is zero, which says that the sample is coarse or copied, not that the mean is
    known.
    """
    numbers = checked(values, 2)
    half = t_quantile(level, len(numbers) - 1) * spread(numbers) / math.sqrt(len(numbers))
    return Interval.around(float(np.mean(numbers)), half, level)


def gap_interval(values: Sequence[float], published: float, level: float) -> Interval:
    """Return the interval of (mean - published). The published number is taken as exact, without a spread."""
    return mean_interval(values, level).less(published)


def known_spread_interval(gap: float, deviation: float, n: int, level: float) -> Interval:
    """Return the normal interval of a gap of n runs whose spread is taken as known: gap +- z deviation / sqrt(n).

    It is for samples too small to estimate their own spread. Limit: it is as good as the assumed spread.
    """
    return Interval.around(gap, t_quantile(level, math.inf) * deviation / math.sqrt(n), level)


def equivalent(interval: Interval, margin: float) -> bool:
    """Return True if two one-sided t tests (TOST) show that |gap| < margin, each at (1 - level) / 2.

    Both tests reject exactly if the whole interval of the gap lies inside the margin; at 90 % each test is at 5 %.

    Source: D. J. Schuirmann, "A comparison of the two one-sided tests procedure and the power approach", J.
    Pharmacokin. Biopharm. 15 (1987). If the true gap is at or beyond the margin it claims equivalence in at most 5 %
    of cases. Assumes that the margin was fixed beforehand and that the published number is exact. Limit: with few or
    noisy runs it can hardly ever hold (docs/verdicts.md has the rates); not holding is no evidence of a difference.
    """
    return beyond(margin, -interval.low) and beyond(margin, interval.high)


def half_digit(digits: int) -> float:
    """Return half of the last printed digit: the most that rounding may have moved a printed number."""
    return 0.5 * 10.0**-digits


def prediction_error(deviation: float, n: int, published_runs: int = 1) -> float:
    """Return the standard error of (mean of n runs - mean of m published runs): deviation sqrt(1/n + 1/m)."""
    if published_runs < 1:
        raise UsageError(
            f"a published value is the mean of at least one run, got {published_runs}", "leave it out if unknown"
        )
    return deviation * math.sqrt(1 / n + 1 / published_runs)


def prediction_half_width(standard_error: float, df: float, rounding: float = 0.0, level: float = 0.95) -> float:
    """Return the half-width of the prediction interval of a published mean: t standard_error + rounding.

    Source: G. J. Hahn and W. Q. Meeker, "Statistical Intervals" (1991), ch. 4. Assumes that the published runs were
    drawn from a normal with our mean and our spread. `rounding` widens it by what printing hides. A floor under the
    spread keeps a sample that happens to be (nearly) identical from condemning anyone. Limit: staying inside is weak
    evidence. At s 0.2, n = 3, m = 1 a method that is truly 0.5 worse stays inside 76 % of the time. df = inf treats
    the spread as known.
    """
    return t_quantile(level, df) * standard_error + rounding


@lru_cache(maxsize=4096)
def _noncentrality(df: float, level: float, power: float) -> float:
    critical = t_quantile(level, df)
    if math.isinf(df):
        return critical + float(stats.norm.ppf(power))
    found = optimize.brentq(lambda shift: float(stats.nct.sf(critical, df, shift)) - power, 0.0, 20 * critical + 20)
    return float(found)


def smallest_detectable_gap(
    standard_error: float, df: float, rounding: float = 0.0, level: float = 0.95, power: float = 0.8
) -> float:
    """Return the smallest true gap that would fall outside the prediction interval with probability `power`.

    Source: the power of the t test by the noncentral t (Cohen, "Statistical Power Analysis", 1988, ch. 2). The
    standard error is taken as the true one: a planning figure, itself as uncertain as the spread it comes from (at n
    = 3 the 95 % interval of the true spread runs from 0.52 to 6.3 times the sample's). df = inf treats the spread as
    known.
    """
    return _noncentrality(df, level, power) * standard_error + rounding


def welch_difference(
    first: Sequence[float], second: Sequence[float], level: float = 0.90, floor: float = 0.0
) -> Difference:
    """Return the mean of the first sample less the mean of the second, unequal spreads, unpaired.

    Source: B. L. Welch, Biometrika 34 (1947), with Satterthwaite's degrees of freedom. Assumes two independent, near
    normal samples. `floor` is the least spread that each is credited with. Limit: at 3 + 3 the degrees of freedom lie
    between 2 and 4.
    """
    a, b = checked(first, 2, "first sample"), checked(second, 2, "second sample")
    part_a, part_b = (spread(x, floor) ** 2 / len(x) for x in (a, b))
    variance = part_a + part_b
    if variance > 0:
        df = variance**2 / (part_a**2 / (len(a) - 1) + part_b**2 / (len(b) - 1))
    else:
        df = float(min(len(a), len(b)) - 1)
    value = float(np.mean(a) - np.mean(b))
    half = t_quantile(level, df) * math.sqrt(variance)
    interval = Interval.around(value, half, level)
    return Difference(value, interval, math.sqrt(variance), df, False, min(len(a), len(b)))


def paired_difference(
    first: Sequence[float], second: Sequence[float], level: float = 0.90, floor: float = 0.0
) -> Difference:
    """Return the mean of the differences, pair by pair: both samples must be in the same order of repetitions.

    Source: Student (1908). Assumes that differences are independent and near normal. It beats Welch where a shared
    seed makes the two runs of a pair rise and fall together; where it does not, pairing only costs degrees of freedom
    (2 instead of 4 at n = 3).
    """
    differences = _paired(first, second)
    value = float(np.mean(differences))
    n, df = len(differences), len(differences) - 1.0
    error = spread(differences, floor) / math.sqrt(n)
    interval = Interval.around(value, t_quantile(level, df) * error, level)
    return Difference(value, interval, error, df, True, n)


def _paired(first: Sequence[float], second: Sequence[float]) -> tuple[float, ...]:
    a, b = checked(first, 2, "first sample"), checked(second, 2, "second sample")
    if len(a) != len(b):
        raise UsageError(f"a paired test needs equal samples, got {len(a)} and {len(b)}", "pass the common ones only")
    differences = tuple(x - y for x, y in zip(a, b, strict=True))
    # 76.2 - 76.1 and 75.9 - 75.8 differ in the 14th digit; a spread of such noise makes any difference significant
    return tuple(round(difference, 9) for difference in differences)


def paired_t(first: Sequence[float], second: Sequence[float], floor: float = 0.0) -> TwoSampleTest:
    """Run the paired t test of equal means, two-sided.

    Source and assumptions as `paired_difference`. `floor` is the least spread that the differences are credited with:
    without it, differences that happen to be equal give p = 0. Limit: at n = 3, p < 0.05 needs a mean difference of
    2.5 times its spread.
    """
    difference = paired_difference(first, second, floor=floor)
    if difference.standard_error > 0:
        p_value = float(2 * stats.t.sf(abs(difference.value) / difference.standard_error, difference.df))
    else:
        p_value = float(difference.value == 0)
    return TwoSampleTest("paired t", p_value, difference.value, (difference.n, difference.n))


def mann_whitney(first: Sequence[float], second: Sequence[float]) -> TwoSampleTest:
    """Run the two-sided Mann-Whitney U test of whether one sample tends to be larger.

    `effect` is P(first > second) - 1/2, where ties count half.

    Source: H. B. Mann and D. R. Whitney, Ann. Math. Stat. 18 (1947); exact if nothing is tied and one sample has at
    most eight values, else scipy's tie-corrected normal approximation. Assumes independent samples, no normality.
    Refused below 4 + 4: at 3 + 3 the smallest two-sided p is 0.1, so it could never reject at 5 %. At 4 + 4 the
    smallest is 0.029, which Holm over two tests already undoes.
    """
    a, b = (checked(x, MANN_WHITNEY_LEAST, "Mann-Whitney sample") for x in (first, second))
    result = stats.mannwhitneyu(a, b, alternative="two-sided", method="auto")
    p_value = 1.0 if math.isnan(result.pvalue) else float(result.pvalue)
    return TwoSampleTest("Mann-Whitney", p_value, float(result.statistic) / (len(a) * len(b)) - 0.5, (len(a), len(b)))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return Holm's step-down adjusted p values, in the order given: reject if an adjusted p is below the level.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6 (1979). Keeps the
    chance of any false rejection in the family below the level, whatever the dependence. Limit: the family must be
    fixed beforehand.
    """
    raw = checked(p_values, 0, "p values")
    if any(not 0 <= p <= 1 for p in raw):
        raise UsageError(f"p values lie between 0 and 1, got {raw}", "pass probabilities, not statistics")
    adjusted = [0.0] * len(raw)
    running = 0.0
    for rank, position in enumerate(sorted(range(len(raw)), key=raw.__getitem__)):
        running = max(running, min(1.0, (len(raw) - rank) * raw[position]))
        adjusted[position] = running
    return tuple(adjusted)


def expected_false_flags(judged: int, level: float = 0.95) -> FalseFlags:
    """Return the flags to expect among `judged` cells that all truly hold, each flagged with chance 1 - level.

    The expectation holds under any dependence; the chance of one or more assumes independent cells, and cells that
    share a teacher, a seed or a baseline are not.
    """
    if judged < 0:
        raise UsageError(f"a table cannot have {judged} judged cells", "count the cells that reached a test")
    return FalseFlags(judged * (1 - level), 1 - level**judged)
