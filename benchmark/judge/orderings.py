"""The orderings of rows within a table, adjusted for the number of tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from benchmark.judge import stats
from benchmark.judge.stats import FalseFlags, Interval
from benchmark.judge.verdicts import Achieved, mean_difference
from benchmark.paper.rules import Rules


class Order(StrEnum):
    """The verdict on a published ordering of two rows."""

    HOLDS = "holds"
    REVERSED = "reversed"
    UNRESOLVED = "not resolved"
    INSUFFICIENT_SEEDS = "insufficient seeds"
    UNSTABLE = "unstable"


@dataclass(frozen=True)
class Ordering:
    """One published ordering: the source has `better` above `worse`."""

    name: str
    better: Achieved
    worse: Achieved
    data: str
    metric: str


@dataclass(frozen=True)
class OrderJudgement:
    """The runs' answer to one ordering. `difference` is better minus worse, by the source's naming."""

    name: str
    order: Order
    reason: str
    n: tuple[int, int]
    difference: float | None = None
    interval: Interval | None = None
    test: str | None = None
    p_value: float | None = None
    adjusted: float | None = None


@dataclass(frozen=True)
class OrderReport:
    """All orderings of a table. `flags`: the effect of chance without Holm if no two rows truly differed."""

    judgements: tuple[OrderJudgement, ...]
    tested: int
    flags: FalseFlags


def judge_orderings(orderings: Sequence[Ordering], rules: Rules) -> OrderReport:
    """Judge every ordering of one table, p values adjusted by Holm over those that could be tested.

    The test is the paired t test if at least the minimum of repetitions is common, else Mann-Whitney if both sides have
    four, else none.
    """
    tests = {index: test for index, item in enumerate(orderings) if (test := _order_test(item, rules)) is not None}
    adjusted = dict(zip(tests, stats.holm([test.p_value for test in tests.values()]), strict=True))
    level = rules.levels.ordering.value
    judged = tuple(
        _order(item, tests.get(index), adjusted.get(index), rules, level) for index, item in enumerate(orderings)
    )
    return OrderReport(judged, len(tests), stats.expected_false_flags(len(tests), level))


def _order_test(item: Ordering, rules: Rules) -> stats.Comparison | None:
    if item.better.diverged or item.worse.diverged:
        return None
    common = sorted(set(item.better.numbers) & set(item.worse.numbers))
    if len(common) >= rules.least:
        floor = rules.scale(item.data, item.metric).spread_floor.value
        return stats.paired_t(item.better.at(common), item.worse.at(common), floor)
    if min(item.better.n, item.worse.n) >= stats.MANN_WHITNEY_LEAST:
        return stats.mann_whitney(item.better.values, item.worse.values)
    return None


def _order(
    item: Ordering, test: stats.Comparison | None, adjusted: float | None, rules: Rules, level: float
) -> OrderJudgement:
    n = (item.better.n, item.worse.n)
    if item.better.diverged or item.worse.diverged:
        return OrderJudgement(item.name, Order.UNSTABLE, "a declared repetition diverged", n)
    if test is None or adjusted is None:
        need = f"{rules.least} common repetitions, or {stats.MANN_WHITNEY_LEAST} on either side"
        return OrderJudgement(item.name, Order.INSUFFICIENT_SEEDS, f"{n[0]} and {n[1]} repetitions; {need} needed", n)
    difference = mean_difference(item.better, item.worse, rules)
    assert difference is not None  # whatever could be tested has a difference
    shown = Order.HOLDS if test.effect > 0 else Order.REVERSED
    order = shown if adjusted < 1 - level else Order.UNRESOLVED
    reason = (
        f"difference {difference.value:+.2f} [{difference.interval.low:+.2f}, {difference.interval.high:+.2f}], "
        f"{test.test} p = {test.p_value:.3g}, after Holm {adjusted:.3g}"
    )
    return OrderJudgement(
        item.name, order, reason, test.n, difference.value, difference.interval, test.test, test.p_value, adjusted
    )
