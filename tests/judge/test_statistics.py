"""The statistics behind the verdicts: against scipy, by their definitions, and in what verdicts rely on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from benchmark.errors import UsageError
from benchmark.judge import stats

accuracy = st.integers(5000, 9000).map(lambda hundredths: hundredths / 100)
samples = st.lists(accuracy, min_size=3, max_size=10).filter(lambda values: max(values) - min(values) > 0.05)
levels = st.sampled_from([0.8, 0.9, 0.95, 0.99])
probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=12)
DKD = (76.20, 75.80, 75.89, 75.85, 76.15)


@given(samples, levels)
def test_mean_interval_is_scipys(values, level):
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(level)
    found = stats.mean_interval(values, level)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@given(samples, accuracy)
def test_equivalence_is_two_one_sided_t_tests(values, published):
    margin = 0.7
    holds = stats.equivalent(stats.gap_interval(values, published, 0.90), margin)
    lower = scipy.stats.ttest_1samp(values, published - margin, alternative="greater").pvalue
    upper = scipy.stats.ttest_1samp(values, published + margin, alternative="less").pvalue
    p_value = max(lower, upper)
    assume(abs(p_value - 0.05) > 1e-9)
    assert holds == (p_value < 0.05)


@given(samples, accuracy, st.floats(0.05, 3), st.floats(0, 3))
def test_a_wider_margin_never_loses_equivalence(values, published, margin, more):
    interval = stats.gap_interval(values, published, 0.90)
    if stats.equivalent(interval, margin):
        assert stats.equivalent(interval, margin + more)


@given(samples, accuracy)
def test_the_interval_of_the_gap_is_symmetric(values, published):
    mirrored = [2 * published - value for value in values]
    found, mirror = (stats.gap_interval(x, published, 0.90) for x in (values, mirrored))
    assert mirror.middle == pytest.approx(-found.middle, abs=1e-9)
    assert (mirror.low, mirror.high) == pytest.approx((-found.high, -found.low), abs=1e-9)


@given(samples, accuracy, st.integers(-20, 20))
def test_gaps_do_not_depend_on_the_origin(values, published, shift):
    found = stats.gap_interval(values, published, 0.9)
    moved = stats.gap_interval([value + shift for value in values], published + shift, 0.9)
    assert (moved.low, moved.high) == pytest.approx((found.low, found.high), abs=1e-9)


@given(samples)
def test_intervals_widen_with_the_level_and_shrink_with_n(values):
    widths = [stats.mean_interval(values, level).half_width for level in (0.8, 0.9, 0.95)]
    assert widths == sorted(widths)
    doubled = stats.mean_interval([*values, *values], 0.9)
    assert doubled.half_width < stats.mean_interval(values, 0.9).half_width


def prediction(values, runs=1, rounding=0.0, floor=0.0):
    n = len(values)
    error = stats.prediction_error(stats.spread(values, floor), n, runs)
    return stats.prediction_half_width(error, n - 1, rounding)


@given(samples, st.integers(1, 20), st.floats(0, 0.5), st.floats(0, 0.5))
def test_prediction_narrows_with_published_runs_and_widens_with_rounding_and_floor(values, runs, rounding, floor):
    plain = prediction(values, runs)
    assert prediction(values, runs + 1) < plain
    assert prediction(values, runs, rounding) == pytest.approx(plain + rounding)
    assert prediction(values, runs, floor=floor) >= plain


def test_prediction_interval_by_hand():
    assert stats.spread(DKD) == pytest.approx(0.183494, abs=1e-6)
    half = 2.776445 * 0.183494 * math.sqrt(1 / 5 + 1) + 0.005
    assert prediction(DKD, 1, stats.half_digit(2)) == pytest.approx(half, abs=1e-5)


@given(samples, levels)
def test_an_interval_of_known_spread_is_the_normal_one(values, level):
    error = 0.2 / math.sqrt(len(values))
    expected = scipy.stats.norm.interval(level, stats.mean(values), error)
    found = stats.known_spread_interval(stats.mean(values), 0.2, len(values), level)
    assert (found.low, found.high) == pytest.approx(expected)


def test_the_prediction_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(7)
    draws = rng.normal(75, 0.2, (4000, 4))
    inside = [abs(np.mean(ours) - published) <= prediction(ours) for *ours, published in draws.tolist()]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(("published_runs", "n"), [(1, 3), (1, 5), (5, 5), (3, 10)])
def test_the_smallest_gap_is_flagged_in_four_cases_of_five(published_runs, n):
    spread = 0.2
    error = spread * math.sqrt(1 / n + 1 / published_runs)
    gap = stats.smallest_detectable_gap(error, n - 1, rounding=0.05)
    rng = np.random.default_rng(n)
    ours = rng.normal(-gap, spread, (20_000, n))
    theirs = rng.normal(0, spread, (20_000, published_runs)).mean(axis=1)
    reach = scipy.stats.t.ppf(0.975, n - 1) * ours.std(axis=1, ddof=1) * math.sqrt(1 / n + 1 / published_runs) + 0.05
    assert np.mean(ours.mean(axis=1) - theirs < -reach) == pytest.approx(0.8, abs=0.012)


def test_the_smallest_gap_with_a_known_spread_is_the_normal_one():
    assert stats.smallest_detectable_gap(1.0, math.inf) == pytest.approx(1.959964 + 0.841621, abs=1e-5)
    assert stats.smallest_detectable_gap(1.0, 1e6) == pytest.approx(2.8016, abs=1e-3)


@given(st.integers(2, 30), st.floats(0.01, 1), st.floats(0.1, 0.9))
@settings(max_examples=30)
def test_the_smallest_gap_shrinks_with_runs_and_grows_with_power(df, error, power):
    found = stats.smallest_detectable_gap(error, df, power=power)
    assert stats.smallest_detectable_gap(error, df + 1, power=power) < found
    assert stats.smallest_detectable_gap(error, df, power=power + 0.05) > found


def test_76_percent_of_truly_worse_methods_stay_inside_three_runs():
    shift = 0.5 / (0.2 * math.sqrt(1 / 3 + 1))
    critical = stats.t_quantile(0.95, 2)
    inside = scipy.stats.nct.cdf(critical, 2, shift) - scipy.stats.nct.cdf(-critical, 2, shift)
    assert round(100 * inside) == 76


@given(samples, samples, levels)
def test_welch_is_scipys(first, second, level):
    expected = scipy.stats.ttest_ind(first, second, equal_var=False)
    interval = expected.confidence_interval(level)
    found = stats.welch_difference(first, second, level)
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert found.df == pytest.approx(expected.df)
    assert min(len(first), len(second)) - 1 <= found.df + 1e-9 <= len(first) + len(second) - 2 + 2e-9


@st.composite
def pairs(draw, least=3):
    n = draw(st.integers(least, 8))
    first = draw(st.lists(accuracy, min_size=n, max_size=n))
    second = draw(st.lists(accuracy, min_size=n, max_size=n))
    differences = [a - b for a, b in zip(first, second, strict=True)]
    assume(max(differences) - min(differences) > 0.05)
    return first, second


@given(pairs(), levels)
def test_paired_is_scipys(pair, level):
    first, second = pair
    expected = scipy.stats.ttest_rel(first, second)
    interval = expected.confidence_interval(level)
    found = stats.paired_difference(first, second, level)
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high), abs=1e-6)
    assert stats.paired_t(first, second).p_value == pytest.approx(expected.pvalue, abs=1e-6)


@given(pairs(), st.floats(0, 2))
def test_differences_are_antisymmetric_and_a_floor_only_weakens(pair, floor):
    first, second = pair
    for make in (stats.paired_difference, stats.welch_difference):
        found, swapped = make(first, second), make(second, first)
        assert swapped.value == pytest.approx(-found.value, abs=1e-9)
        assert swapped.interval.low == pytest.approx(-found.interval.high, abs=1e-9)
    assert stats.paired_t(first, second, floor).p_value >= stats.paired_t(first, second).p_value


def test_pairing_uses_what_common_seeds_share():
    base = [70.0, 71.0, 72.0, 73.0]
    ours = [70.5, 71.4, 72.6, 73.5]
    assert stats.paired_t(ours, base).p_value < 0.01
    assert scipy.stats.ttest_ind(ours, base).pvalue > 0.5
    paired, welch = stats.paired_difference(ours, base), stats.welch_difference(ours, base)
    assert paired.interval.half_width < welch.interval.half_width / 10


def test_equal_differences_are_credited_with_the_floor():
    first, second = [76.2, 75.9, 76.0], [76.1, 75.8, 75.9]
    assert stats.paired_t(first, second).p_value == 0.0
    assert stats.paired_t(first, second, floor=0.1).p_value == pytest.approx(
        2 * scipy.stats.t.sf(0.1 / (0.1 / math.sqrt(3)), 2)
    )
    assert stats.paired_t(first, first).p_value == 1.0


def test_mann_whitney_by_hand():
    found = stats.mann_whitney([5, 6, 7, 8], [1, 2, 3, 4])
    assert (found.p_value, found.effect) == (pytest.approx(2 / 70), 0.5)
    assert stats.mann_whitney([1, 2, 3, 4], [5, 6, 7, 8]).effect == -0.5
    assert stats.mann_whitney([5, 5, 5, 5], [5, 5, 5, 5]).p_value == 1.0


@given(st.lists(accuracy, min_size=4, max_size=7), st.lists(accuracy, min_size=4, max_size=7))
def test_mann_whitney_sees_ranks_only(first, second):
    found = stats.mann_whitney(first, second)
    stretched = stats.mann_whitney([value**3 for value in first], [value**3 for value in second])
    swapped = stats.mann_whitney(second, first)
    assert (stretched.p_value, stretched.effect) == (pytest.approx(found.p_value), found.effect)
    assert (swapped.p_value, swapped.effect) == (pytest.approx(found.p_value), pytest.approx(-found.effect))
    assert 0 < found.p_value <= 1


def test_mann_whitney_is_refused_where_it_cannot_reject():
    assert scipy.stats.mannwhitneyu([4, 5, 6], [1, 2, 3]).pvalue == pytest.approx(0.1)
    with pytest.raises(UsageError, match="3 given, at least 4 needed"):
        stats.mann_whitney([4, 5, 6], [1, 2, 3, 4])


def test_holm_by_hand():
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert stats.holm([]) == ()


@given(probabilities, st.floats(0.001, 0.999))
def test_holm_rejects_what_the_step_down_procedure_rejects(raw, alpha):
    assume(all(abs(p * k - alpha) > 1e-9 for p in raw for k in range(1, len(raw) + 1)))
    rejected: set[int] = set()
    for rank, position in enumerate(sorted(range(len(raw)), key=raw.__getitem__)):
        if raw[position] > alpha / (len(raw) - rank):
            break
        rejected.add(position)
    assert {i for i, p in enumerate(stats.holm(raw)) if p <= alpha} == rejected


@given(probabilities)
def test_holm_lies_between_the_raw_and_bonferroni_and_keeps_the_order(raw):
    adjusted = stats.holm(raw)
    assert all(p <= q <= 1 for p, q in zip(raw, adjusted, strict=True))
    assert all(q <= min(1, len(raw) * p) + 1e-12 for p, q in zip(raw, adjusted, strict=True))
    by_raw = [q for _, q in sorted(zip(raw, adjusted, strict=True))]
    assert by_raw == sorted(by_raw)


@given(probabilities, st.randoms())
def test_holm_does_not_depend_on_the_order_given(raw, random):
    order = list(range(len(raw)))
    random.shuffle(order)
    adjusted, shuffled = stats.holm(raw), stats.holm([raw[i] for i in order])
    assert [adjusted[i] for i in order] == list(shuffled)


def test_false_flags_of_a_table():
    flags = stats.expected_false_flags(48)
    assert flags.expected == pytest.approx(2.4)
    assert flags.any == pytest.approx(1 - 0.95**48)
    assert stats.expected_false_flags(0) == stats.FalseFlags(0.0, 0.0)


def test_identical_values_have_exactly_no_spread():
    assert np.std([76.1] * 6, ddof=1) > 0  # rounding dust, which a t test would divide by
    assert stats.spread([76.1] * 6) == 0.0
    assert stats.equivalent(stats.gap_interval([76.1] * 3, 76.2, 0.90), 0.3)
    assert not stats.equivalent(stats.gap_interval([76.1] * 3, 77.0, 0.90), 0.3)
    assert stats.welch_difference([76.1] * 3, [75.0] * 4).df == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_named(bad):
    with pytest.raises(UsageError, match=r"value 1 is (nan|-?inf), not a finite number"):
        stats.mean_interval([76.0, bad, 75.0], 0.9)
    with pytest.raises(UsageError, match="second sample: value 0"):
        stats.welch_difference([1.0, 2.0], [bad, 1.0])
    with pytest.raises(UsageError, match="p values"):
        stats.holm([bad])


def test_impossible_questions_are_refused():
    with pytest.raises(UsageError, match="1 given, at least 2"):
        stats.spread([76.0])
    with pytest.raises(UsageError, match="between 0 and 1, got 90"):
        stats.mean_interval([1.0, 2.0], 90)
    with pytest.raises(UsageError, match="at least one run, got 0"):
        stats.prediction_error(0.2, 2, 0)
    with pytest.raises(UsageError, match="equal samples, got 2 and 3"):
        stats.paired_t([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(UsageError, match="between 0 and 1, got"):
        stats.holm([0.5, 1.5])
    with pytest.raises(UsageError, match="-1 judged cells"):
        stats.expected_false_flags(-1)
