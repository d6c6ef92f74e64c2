"""Every rule on a case built for it, the rules file, and the numbers that docs/verdicts.md prints."""

from __future__ import annotations

import importlib.util
import math
import re
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.errors import UsageError
from benchmark.judge import stats
from benchmark.judge.contrasts import Ordering, OrderVerdict, judge_orderings
from benchmark.judge.rule_chain import judge, judge_epochs, judge_gain, judge_static
from benchmark.judge.samples import Published, PublishedGain, Sample
from benchmark.judge.verdicts import BLOCKING, Severity, Verdict
from benchmark.machine.plugins import ROOT
from benchmark.paper.rules import RULES, load_rules

DKD = (76.20, 75.80, 75.89, 75.85, 76.15)
TABLE_9_STDS = (
    "24 36 28 47 15 22 13 14 21 28 09 17 20 06 11 42 39 28 19 04 18 33 25 34 "
    "22 17 18 28 32 10 20 24 25 32 19 27 24 30 19 23 18 25 09 14 15 27 13 21"
)


@pytest.fixture(scope="module")
def rules():
    return load_rules()


def cifar(value, runs=None, std=None, digits=2):
    return Published(value, digits, "cifar100", "top1", std=std, runs=runs)


def around(mean, spread, n):
    """n values with exactly this mean and sample spread, before rounding to nine digits."""
    shape = np.linspace(-1, 1, n)
    return Sample(tuple(np.round(mean + shape * spread / shape.std(ddof=1), 9).tolist()))


# ---- rules 3 to 8


def test_unstable_wins_over_every_number(rules):
    found = judge(cifar(76.0), Sample((76.0, 76.01, 75.99), diverged=1), rules)
    assert found.verdict is Verdict.UNSTABLE
    assert "1 of 4 repetitions diverged" in found.reason
    assert found.gap == pytest.approx(0.0)
    assert judge(cifar(76.0), Sample((), diverged=3), rules).reason == "3 of 3 repetitions diverged"


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_repetitions_get_an_indication(rules, n):
    found = judge(cifar(76.0), Sample((75.57,) * n), rules)
    assert found.verdict is Verdict.INSUFFICIENT_SEEDS
    assert "the gap of -0.43 is 2.0 times the spread of 0.21 that is typical of cifar100" in found.reason
    assert found.n == n
    assert found.interval.half_width == pytest.approx(1.644854 * 0.215 / math.sqrt(n), abs=1e-5)
    assert found.prediction == pytest.approx(1.959964 * 0.215 * math.sqrt(1 / n + 1) + 0.005, abs=1e-5)


def test_a_cells_own_printed_spread_is_the_better_yardstick(rules):
    found = judge(cifar(76.0, std=0.43), Sample((75.57,)), rules)
    assert "1.0 times the spread of 0.43 that the source prints for this cell" in found.reason
    assert "typical of cifar100" in judge(cifar(76.0, std=0.0), Sample((75.57,)), rules).reason


def test_reproduced_needs_the_whole_interval_inside_the_margin(rules):
    found = judge(cifar(76.0), around(75.9, 0.1, 5), rules)
    assert found.verdict is Verdict.REPRODUCED
    assert found.interval.low == pytest.approx(-0.1 - 2.131847 * 0.1 / math.sqrt(5), abs=1e-5)
    assert found.margin == 0.3
    # the same gap with a wider spread, and a gap within the margin whose interval is not
    assert judge(cifar(76.0), around(75.9, 0.3, 5), rules).verdict is not Verdict.REPRODUCED
    assert judge(cifar(76.0), around(75.75, 0.1, 5), rules).verdict is not Verdict.REPRODUCED


@pytest.mark.parametrize(("mean", "verdict"), [(75.0, Verdict.BELOW), (77.0, Verdict.ABOVE)])
def test_below_and_above_are_outside_the_prediction_interval(rules, mean, verdict):
    found = judge(cifar(76.0), around(mean, 0.2, 5), rules)
    assert found.verdict is verdict
    assert found.prediction == pytest.approx(2.776445 * 0.2 * math.sqrt(1.2) + 0.005, abs=1e-5)
    assert "the published value taken as one run" in found.reason


def test_published_runs_narrow_the_prediction_interval(rules):
    ours = around(75.6, 0.2, 5)
    assert judge(cifar(76.0), ours, rules).verdict is not Verdict.BELOW
    found = judge(cifar(76.0, runs=5), ours, rules)
    assert found.verdict is Verdict.BELOW
    assert "taken as one run" not in found.reason


def test_half_a_printed_digit_can_decide(rules):
    reach = 2.776445 * 0.2 * math.sqrt(1.2)
    ours = around(76.0 - reach - 0.03, 0.2, 5)
    assert judge(cifar(76.0, digits=2), ours, rules).verdict is Verdict.BELOW
    assert judge(cifar(76.0, digits=1), ours, rules).verdict is not Verdict.BELOW


def test_zero_spread_condemns_nobody(rules):
    same = Sample((75.6, 75.6, 75.6))
    found = judge(cifar(76.0), same, rules)
    assert found.verdict is Verdict.CONSISTENT
    assert found.prediction == pytest.approx(4.302653 * 0.1 * math.sqrt(4 / 3) + 0.005, abs=1e-5)
    assert found.reason.endswith("all repetitions gave the same value: were they different runs?")


def test_consistent_and_inconclusive_part_at_twice_the_margin(rules):
    widest = (0.6 - 0.005) / (2.776445 * math.sqrt(1.2))
    assert judge(cifar(76.0), around(75.7, widest - 1e-4, 5), rules).verdict is Verdict.CONSISTENT
    found = judge(cifar(76.0), around(75.7, widest + 1e-4, 5), rules)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "wider than ±0.60" in found.reason


@pytest.mark.parametrize("hundredths", range(5000, 9900, 350))
def test_a_gap_at_a_boundary_is_judged_alike_whatever_the_numbers_size(rules, hundredths):
    """76.3 - 76.0 is 0.29999999999999716 and 0.8 - 0.5 is 0.30000000000000004; both gaps are the margin."""
    published = hundredths / 100
    for sign in (-1, 1):
        at = judge(cifar(published), Sample(((hundredths + sign * 30) / 100,) * 5), rules)
        assert at.verdict is Verdict.CONSISTENT, "on the margin is not inside it"
        inside = judge(cifar(published), Sample(((hundredths + sign * 29) / 100,) * 5), rules)
        assert inside.verdict is Verdict.REPRODUCED


def test_margins_follow_the_data_set(rules):
    ours = around(72.0, 0.08, 5)
    assert judge(Published(72.15, 2, "imagenet", "top1"), ours, rules).verdict is not Verdict.REPRODUCED
    assert judge(cifar(72.15), ours, rules).verdict is Verdict.REPRODUCED


def test_every_judged_cell_shows_its_numbers(rules):
    for mean, spread, n in [(76, 0.05, 3), (75, 0.2, 5), (75.7, 0.15, 5), (75.7, 0.4, 3), (76, 0, 1)]:
        values = (76.0,) if n == 1 else around(mean, spread, n).values
        found = judge(cifar(76.0), Sample(values), rules)
        assert found.n == n
        assert found.interval.low <= found.gap <= found.interval.high
        assert found.smallest_gap_seen > found.prediction > 0
        assert found.reason


def test_missing_repetitions_are_mentioned_and_none_is_not_run(rules):
    found = judge(cifar(76.0), replace(around(76.0, 0.1, 3), declared=5), rules)
    assert found.reason.endswith("3 of 5 declared repetitions are recorded")
    nothing = judge(cifar(76.0), Sample(()), rules)
    assert (nothing.verdict, nothing.gap, nothing.n) == (Verdict.NOT_RUN, None, 0)


spreads = st.floats(0.02, 1.0)


@given(st.floats(-2, 2), spreads, st.integers(3, 10))
def test_verdicts_mirror(gap, spread, n):
    rules = load_rules()
    swap = {Verdict.BELOW: Verdict.ABOVE, Verdict.ABOVE: Verdict.BELOW}
    down, up = (judge(cifar(76.0), around(76.0 + sign * gap, spread, n), rules) for sign in (-1, 1))
    assert up.verdict is swap.get(down.verdict, down.verdict)
    assert up.gap == pytest.approx(-down.gap, abs=1e-6)


@given(st.floats(0, 3), st.floats(0, 3), spreads, st.integers(3, 10))
def test_a_larger_gap_never_looks_better(first, second, spread, n):
    rules = load_rules()
    order = [Verdict.REPRODUCED, Verdict.CONSISTENT, Verdict.INCONCLUSIVE, Verdict.BELOW]
    near, far = sorted((first, second))
    by_gap = [order.index(judge(cifar(76.0), around(76.0 - gap, spread, n), rules).verdict) for gap in (near, far)]
    assert by_gap == sorted(by_gap)


# ---- rule 2


@pytest.mark.parametrize("verdict", sorted(BLOCKING))
def test_what_the_caller_decided_wins(rules, verdict):
    found = judge(cifar(76.0), Sample((70.0, 70.1, 70.2), diverged=1), rules, blocked=(verdict, "because"))
    assert (found.verdict, found.reason) == (verdict, "because")
    near = verdict in (Verdict.PROTOCOL_MISMATCH, Verdict.TEACHER_MISMATCH)
    assert (found.gap is not None) == near
    assert judge(cifar(76.0), Sample(()), rules, blocked=(verdict, "because")).verdict is verdict


def test_a_caller_cannot_decide_a_statistical_verdict(rules):
    with pytest.raises(UsageError, match="'reproduced' cannot be decided before"):
        judge(cifar(76.0), Sample((76.0,)), rules, blocked=(Verdict.REPRODUCED, "trust me"))


# ---- epoch selection


def test_the_sources_epoch_is_used_where_it_is_known(rules):
    last, best = around(75.0, 0.1, 5), around(76.0, 0.1, 5)
    assert judge_epochs(cifar(76.0), last, best, "last", rules).verdict is Verdict.BELOW
    assert judge_epochs(cifar(76.0), last, best, "best", rules).verdict is Verdict.REPRODUCED


def test_an_unknown_epoch_that_matters_is_a_verdict_of_its_own(rules):
    last, best = around(75.0, 0.1, 5), around(76.0, 0.1, 5)
    found = judge_epochs(cifar(76.0), last, best, "unknown", rules)
    assert found.verdict is Verdict.DEPENDS_ON_EPOCH
    assert "below by the last (gap -1.00), reproduced by the best (gap +0.00)" in found.reason
    assert {name: part.verdict for name, part in found.readings.items()} == {
        "last": Verdict.BELOW,
        "best": Verdict.REPRODUCED,
    }


def test_an_unknown_epoch_that_does_not_matter_keeps_the_last(rules):
    last, best = around(75.98, 0.05, 5), around(76.0, 0.05, 5)
    found = judge_epochs(cifar(76.0), last, best, "unknown", rules)
    assert found.verdict is Verdict.REPRODUCED
    assert found.gap == pytest.approx(-0.02)
    blocked = judge_epochs(cifar(76.0), last, best, "unknown", rules, blocked=(Verdict.NOT_COMPARABLE, "mini"))
    assert (blocked.verdict, blocked.reason) == (Verdict.NOT_COMPARABLE, "mini")


# ---- rule 1


def test_a_cost_is_equal_to_the_printed_digit_under_a_named_convention():
    found = judge_static("61.1", {"mmseg": 87.1, "CIRKD": 61.119})
    assert (found.verdict, found.convention) == (Verdict.EQUAL, "CIRKD")
    assert found.reason == "61.119 rounds to 61.1 under CIRKD; 2 conventions tried"
    assert judge_static("2,371.7", {"CIRKD": 2371.66}).verdict is Verdict.EQUAL
    assert judge_static("12.35", {"tie up": 12.345}).verdict is Verdict.EQUAL
    assert judge_static("12.34", {"tie down": 12.345}).verdict is Verdict.EQUAL
    assert judge_static("61", {"whole": 60.6}).verdict is Verdict.EQUAL


def test_a_cost_that_differs_names_the_nearest_convention():
    found = judge_static("2371.7", {"true convolutions": 2063.35, "mmseg": 2781.0})
    assert (found.verdict, found.convention) == (Verdict.DIFFERS, "true convolutions")
    assert found.gap == pytest.approx(-308.35)
    assert judge_static("0.210", {"rounded": 0.2}).verdict is Verdict.DIFFERS
    assert judge_static("0.2", {"rounded": 0.21}).verdict is Verdict.EQUAL


def test_static_cells_refuse_what_is_no_number():
    with pytest.raises(UsageError, match=r"'61.1 M' is no printed number"):
        judge_static("61.1 M", {"a": 61.1})
    with pytest.raises(UsageError, match="no printed number"):
        judge_static("nan", {"a": 61.1})
    with pytest.raises(UsageError, match="not a finite number"):
        judge_static("61.1", {"a": math.nan})
    assert judge_static("61.1", {}).verdict is Verdict.NOT_RUN


# ---- gains


def test_a_gain_between_printed_cells():
    gain = PublishedGain.between(cifar(72.22, runs=3), cifar(70.6, digits=1))
    assert (gain.value, gain.rounding) == (1.62, pytest.approx(0.055))
    assert (gain.runs_ours, gain.runs_base) == (3, None)
    with pytest.raises(UsageError, match="cifar100 top1 and imagenet top1"):
        PublishedGain.between(cifar(72.22), Published(70.0, 2, "imagenet", "top1"))


def test_gains_pair_on_common_repetitions(rules):
    gain = PublishedGain.between(cifar(76.0), cifar(74.0))
    base = Sample((73.0, 74.0, 75.0, 73.5))
    ours = Sample((75.02, 75.98, 77.0, 90.0), repetitions=(0, 1, 2, 9))
    found = judge_gain(gain, ours, base, rules)
    assert found.verdict is Verdict.REPRODUCED
    assert found.reason.endswith("paired on 3 repetitions")
    assert found.n == 3
    assert found.gap == pytest.approx(0.0, abs=1e-9)


def test_gains_without_common_repetitions_are_welchs(rules):
    gain = PublishedGain.between(cifar(76.0), cifar(74.0))
    base = Sample((73.9, 74.0, 74.1, 74.0))
    ours = Sample((75.0, 75.1, 75.2, 75.1), repetitions=(4, 5, 6, 7))
    found = judge_gain(gain, ours, base, rules)
    assert found.reason.endswith("unpaired (Welch)")
    assert found.verdict is Verdict.BELOW
    assert found.gap == pytest.approx(-0.9)
    welch = stats.welch_difference(ours.values, base.values, 0.9)
    assert found.interval.low == pytest.approx(welch.interval.low - 2.0)


def test_the_reach_of_a_gain_holds_both_published_spreads(rules):
    base, ours = around(74.0, 0.2, 5), around(76.0, 0.2, 5)
    ours = replace(ours, values=ours.values[::-1])  # seeds that pull apart: the differences spread by 0.4
    one = judge_gain(PublishedGain.between(cifar(76.0), cifar(74.0)), ours, base, rules)
    five = judge_gain(PublishedGain.between(cifar(76.0, runs=5), cifar(74.0, runs=5)), ours, base, rules)
    error = math.sqrt(0.4**2 / 5 + 2 * 0.2**2)
    assert one.prediction == pytest.approx(2.776445 * error + 0.01, abs=1e-5)
    assert five.prediction == pytest.approx(2.776445 * math.sqrt(0.4**2 / 5 + 2 * 0.2**2 / 5) + 0.01, abs=1e-5)
    assert "published values taken as one run" in one.reason


def test_gains_obey_rules_2_to_4(rules):
    gain = PublishedGain.between(cifar(76.0), cifar(74.0))
    three, one = around(76.0, 0.1, 3), Sample((74.5,))
    found = judge_gain(gain, three, one, rules)
    assert (found.verdict, found.reason) == (
        Verdict.INSUFFICIENT_SEEDS,
        "3 and 1 repetition, of at least 3 each",
    )
    assert found.gap == pytest.approx(-0.5)
    assert judge_gain(gain, three, Sample(()), rules).verdict is Verdict.NOT_RUN
    assert judge_gain(gain, three, replace(three, diverged=1), rules).verdict is Verdict.UNSTABLE
    blocked = judge_gain(gain, three, three, rules, blocked=(Verdict.TEACHER_MISMATCH, "70.1"))
    assert (blocked.verdict, blocked.gap) == (Verdict.TEACHER_MISMATCH, pytest.approx(-2.0))


# ---- orderings


def ordering(name, better, worse, **kwargs):
    return Ordering(name, Sample(tuple(better), **kwargs), Sample(tuple(worse)), "cifar100", "top1")


def test_orderings_are_adjusted_within_the_table(rules):
    base = (74.0, 74.3, 74.1, 74.4, 74.2)
    clear = ordering("clear", (value + 2 for value in base), base)
    slight = ordering("slight", (74.2, 74.4, 74.2, 74.6, 74.3), base)
    wrong = ordering("wrong", (value - 2 for value in base), base)
    alone = judge_orderings([slight], rules).judgements[0]
    assert (alone.order, alone.adjusted) == (OrderVerdict.HOLDS, alone.p_value)
    report = judge_orderings([clear, slight, wrong, *[ordering(f"tie {i}", base, base) for i in range(9)]], rules)
    found = {item.name: item for item in report.judgements}
    assert (found["clear"].order, found["wrong"].order) == (OrderVerdict.HOLDS, OrderVerdict.REVERSED)
    assert found["slight"].order is OrderVerdict.UNRESOLVED
    assert found["slight"].p_value == alone.p_value < 0.05 < found["slight"].adjusted
    assert found["tie 0"].p_value == 1.0
    assert report.tested == 12
    assert report.flags.expected == pytest.approx(0.6)
    assert "paired t" in found["clear"].reason


def test_orderings_without_common_seeds_need_four_on_either_side(rules):
    base = (74.0, 74.3, 74.1, 74.4)
    four = ordering("four", (76.0, 76.1, 76.2, 76.3), base, repetitions=(10, 11, 12, 13))
    three = ordering("three", (76.0, 76.1, 76.2), base, repetitions=(10, 11, 12))
    broken = ordering("broken", (76.0, 76.1, 76.2), base, diverged=1)
    report = judge_orderings([four, three, broken], rules)
    assert [item.order for item in report.judgements] == [
        OrderVerdict.HOLDS,
        OrderVerdict.INSUFFICIENT_SEEDS,
        OrderVerdict.UNSTABLE,
    ]
    assert report.judgements[0].test == "Mann-Whitney"
    assert report.judgements[0].adjusted == pytest.approx(2 / 70)
    assert "3 and 4 repetitions; 3 common repetitions, or 4 on either side needed" in report.judgements[1].reason
    assert report.tested == 1
    assert judge_orderings([], rules).judgements == ()


def test_identical_differences_do_not_decide_an_ordering_by_themselves(rules):
    base = (74.0, 74.3, 74.1)
    found = judge_orderings([ordering("shifted", (value + 0.05 for value in base), base)], rules).judgements[0]
    assert found.order is OrderVerdict.UNRESOLVED


# ---- words


def test_the_words_are_the_designs():
    assert {str(verdict) for verdict in Verdict} == {
        "equal", "differs", "not run", "not verifiable here", "not comparable", "protocol mismatch", "teacher mismatch",
        "unstable", "insufficient seeds", "reproduced", "below", "above", "consistent", "inconclusive",
        "depends on epoch selection",
    }  # fmt: skip
    for verdict in Verdict:
        assert verdict.meaning and "\n" not in verdict.meaning
        assert isinstance(verdict.severity, Severity)
        assert Verdict.parse(verdict.slug) is Verdict.parse(verdict.value.upper()) is verdict
    assert {v for v in Verdict if v.severity is Severity.GOOD} == {Verdict.EQUAL, Verdict.REPRODUCED}
    with pytest.raises(UsageError, match="did you mean 'protocol-mismatch'"):
        Verdict.parse("protocol-missmatch")


# ---- bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sample((76.0, math.nan)), "achieved values: value 1 is nan, not a finite number"),
        (lambda: Sample((760.0,)), "value 0 is 760.0, not a percentage"),
        (lambda: Sample((76.0,), diverged=-1), "-1 diverged"),
        (lambda: Sample((76.0, 75.0), repetitions=(0,)), "were given for 2 values"),
        (lambda: Sample((76.0, 75.0), repetitions=(1, 1)), "were given for 2 values"),
        (lambda: Sample((76.0, 75.0), diverged=2, declared=3), "4 repetitions where 3 are declared"),
        (lambda: cifar(math.inf), "published cifar100 top1: value 0 is inf"),
        (lambda: cifar(76.32, digits=1), "76.32 is not printed with 1 digits"),
        (lambda: cifar(76.32, runs=0), "0 runs"),
        (lambda: cifar(76.32, std=-0.1), "a spread of -0.1"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        make()


def test_unknown_scales_name_the_nearest(rules):
    with pytest.raises(UsageError, match=r"no rule for cifar10 top1\n.*did you mean 'cifar100 top1'"):
        judge(Published(90.0, 1, "cifar10", "top1"), Sample((90.0,)), rules)


# ---- the rules file


def test_the_designs_numbers(rules):
    margins = {(scale.data, metric): scale.margin.value for scale in rules.scales for metric in scale.metrics}
    assert margins["cifar100", "top1"] == margins["coco2017", "ap"] == 0.3
    assert (margins["imagenet", "top1"], margins["cityscapes", "miou"]) == (0.2, 0.5)
    assert (rules.levels.equivalence.value, rules.levels.prediction.value, rules.least) == (0.90, 0.95, 3)
    gate = rules.teacher_gate
    assert gate.tolerance("miou", pinned=True) == gate.tolerance("top1", pinned=True) == 0.1
    assert [gate.tolerance(metric, pinned=False) for metric in ("top1", "ap", "miou")] == [0.5, 0.3, 0.5]
    with pytest.raises(UsageError, match="knows no metric 'mAP'"):
        gate.tolerance("mAP", pinned=False)


def test_cifar_spreads_are_table_9s(rules):
    printed = np.array(TABLE_9_STDS.split(), float) / 100
    scale = rules.scale("cifar100", "top1")
    assert len(printed) == 48
    assert scale.typical_spread.value == pytest.approx(np.median(printed))
    assert scale.spread_floor.value == pytest.approx(np.quantile(printed, 0.1), abs=0.01)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    margin:\n      value: 0.3", "    margin:\n      value: -0.3", "greater than 0 (got -0.3)"),
        ("    margin:\n      value: 0.3", "    margin:\n      value: .nan", "(got nan)"),
        ("    margin:\n      value: 0.3", "    marign:\n      value: 0.3", "marign: extra inputs are not permitted"),
        ("    value: 0.90\n", "    value: 90\n", "equivalence.value: input should be less than 1 (got 90)"),
        ("    source: convention\n", "", "prediction.source: field required"),
        (
            "    metrics: [miou]\n    margin",
            "    metrics: []\n    margin",
            "metrics: tuple should have at least 1 item",
        ),
        ("data: imagenet100\n    metrics: [top1", "data: cifar100\n    metrics: [top1", "cifar100 top1 twice"),
        ("      value: 0.1\n      source: DiffKD", "      value: 0.4\n      source: DiffKD", "exceeds typical_spread"),
        ("minimum_repetitions:\n  value: 3", "minimum_repetitions:\n  value: 2.5", "must be a whole number"),
        ("scales:\n", "levels: {}\nscales:\n", "'levels' is given twice"),
    ],
)
def test_a_wrong_rules_file_names_line_and_value(tmp_path, old, new, message):
    text = RULES.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "rules.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UsageError, match=r"rules.yaml:\d+: ") as caught:
        load_rules(path)
    assert message in str(caught.value)


# ---- the document


@pytest.fixture(scope="module")
def simulation():
    spec = importlib.util.spec_from_file_location("simulate_verdicts", ROOT / "docs" / "simulate_verdicts.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def document(simulation):
    return simulation.DOC.read_text(encoding="utf-8")


def rows(block):
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in block.splitlines()[2:]]


def test_the_worked_case(rules):
    found = judge(cifar(76.32), Sample(DKD), rules)
    assert found.verdict is Verdict.CONSISTENT
    assert found.gap == pytest.approx(-0.342)
    assert (found.interval.low, found.interval.high) == pytest.approx((-0.517, -0.167), abs=5e-4)
    assert found.prediction == pytest.approx(0.563, abs=5e-4)
    assert judge(cifar(76.32, runs=5), Sample(DKD), rules).verdict is Verdict.BELOW


def test_the_document_prints_what_is_computed(simulation, document):
    for name, make in simulation.COMPUTED.items():
        assert simulation.block(name, document) == make(), name


def test_the_document_prints_the_rules(rules, document):
    printed = [
        tuple(map(float, numbers))
        for numbers in re.findall(r"^\| (?:CIFAR|Image|COCO|City)[^|]*\| (\S+) \| (\S+) \| (\S+) \|$", document, re.M)
    ]
    assert printed == [(s.margin.value, s.spread_floor.value, s.typical_spread.value) for s in rules.scales]


def test_the_printed_error_rates_are_those_of_a_fresh_simulation(simulation, document):
    draws = 250
    for index, (case, row) in enumerate(
        zip(simulation.main_cases(), rows(simulation.block("main", document)), strict=True)
    ):
        assert row[:3] == [str(case.n), f"{case.spread:.1f}", f"{case.worse:.1f}"]
        fresh = simulation.shares(case, draws, seed=99 + index)
        shares = [*(fresh.of[verdict] for verdict in simulation.SHOWN), fresh.inside]
        for share, printed in zip(shares, map(float, row[3:]), strict=True):
            expected = printed / 100
            tolerance = 5 * math.sqrt(max(expected * (1 - expected), 0.005) / draws) + 0.005
            assert share == pytest.approx(expected, abs=tolerance), row


def test_a_wrong_error_rate_would_be_noticed(simulation, document):
    case = simulation.Case(3, 0.2, 0.5)
    fresh = simulation.shares(case, 250, seed=1)
    other = next(row for row in rows(simulation.block("main", document)) if row[:3] == ["10", "0.2", "0.5"])
    assert abs(fresh.inside - float(other[-1]) / 100) > 0.2


@pytest.mark.slow
def test_every_simulated_table_can_be_made_again(simulation, document):
    for name, make in simulation.SIMULATED.items():
        assert simulation.block(name, document) == make(), name


def test_the_script_writes_its_document(simulation, document, tmp_path, monkeypatch):
    copy = tmp_path / "verdicts.md"
    shutil.copy(simulation.DOC, copy)
    copy.write_text(simulation.with_block("orderings", "stale", document), encoding="utf-8")
    monkeypatch.setattr(simulation, "DOC", copy)
    monkeypatch.setattr(simulation, "SIMULATED", {})
    monkeypatch.setattr(sys, "argv", ["simulate_verdicts.py", "--write"])
    simulation.main()
    assert copy.read_text(encoding="utf-8") == document
