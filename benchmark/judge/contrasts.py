"""Comparisons between cells: gains over the student and over MSE, and the orderings that a table claims.

Two cells can be compared if they differ only in the method: same data set, metric, student (or a form of
it), first weights, and teacher. It does not matter if methods are rows, as in Table 9, or columns, as in Table 2.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import Literal

from benchmark.judge import stats
from benchmark.judge.measures import mean_difference
from benchmark.judge.rule_chain import judge_gain
from benchmark.judge.samples import Published, PublishedGain, Sample
from benchmark.judge.stats import FalseFlags, Interval
from benchmark.judge.verdicts import BLOCKING, Blocked, Judgement, Verdict
from benchmark.models.registry import models
from benchmark.paper.rules import Rules
from benchmark.paper.suite import Cell, Suite, TeacherSpec, ordering_of


class OrderVerdict(StrEnum):
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
    better: Sample
    worse: Sample
    data: str
    metric: str


@dataclass(frozen=True)
class OrderJudgement:
    """The runs' answer to one ordering. `difference` is better minus worse, by the source's naming."""

    name: str
    order: OrderVerdict
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


def _order_test(item: Ordering, rules: Rules) -> stats.TwoSampleTest | None:
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
    item: Ordering, test: stats.TwoSampleTest | None, adjusted: float | None, rules: Rules, level: float
) -> OrderJudgement:
    n = (item.better.n, item.worse.n)
    if item.better.diverged or item.worse.diverged:
        return OrderJudgement(item.name, OrderVerdict.UNSTABLE, "a declared repetition diverged", n)
    if test is None or adjusted is None:
        need = f"{rules.least} common repetitions, or {stats.MANN_WHITNEY_LEAST} on either side"
        return OrderJudgement(
            item.name, OrderVerdict.INSUFFICIENT_SEEDS, f"{n[0]} and {n[1]} repetitions; {need} needed", n
        )
    difference = mean_difference(item.better, item.worse, rules)
    assert difference is not None  # every ordering that could be tested has a difference
    shown = OrderVerdict.HOLDS if test.effect > 0 else OrderVerdict.REVERSED
    order = shown if adjusted < 1 - level else OrderVerdict.UNRESOLVED
    reason = (
        f"difference {difference.value:+.2f} [{difference.interval.low:+.2f}, {difference.interval.high:+.2f}], "
        f"{test.test} p = {test.p_value:.3g}, after Holm {adjusted:.3g}"
    )
    return OrderJudgement(
        item.name, order, reason, test.n, difference.value, difference.interval, test.test, test.p_value, adjusted
    )


@dataclass(frozen=True)
class Gain:
    """The difference between a cell and a base row of the same column, published and ours."""

    over: Literal["student", "MSE"]
    cell: str  # ids
    base: str
    row: str  # `group: row` of the cell
    column: str
    published: float
    achieved: float | None
    judgement: Judgement  # its gap is achieved minus published


Over = Literal["student", "MSE"]
BASES: dict[str, Over] = {"none": "student", "mse": "MSE"}
Contest = tuple[str, ...]


@dataclass(frozen=True)
class Contender:
    """A cell with the runs that judge it, under the epoch selection that is shown."""

    cell: Cell
    published: Published
    achieved: Sample
    verdict: Verdict
    reason: str

    @property
    def blocked(self) -> Blocked | None:
        """Return the cell's own blocking verdict and reason (rule 2), or None."""
        return (self.verdict, f"{line(self.cell)}: {self.reason}") if self.verdict in BLOCKING else None

    @property
    def has_runs(self) -> bool:
        """Return True if the cell's own experiment has any run to compare."""
        return self.blocked is None and bool(self.achieved.n or self.achieved.diverged)


def line(cell: Cell) -> str:
    """Return the row's name with its group: `group: row`."""
    return f"{cell.group}: {cell.row}" if cell.group else cell.row


def contest_of(cell: Cell) -> Contest:
    """Return the settings that two cells must share to be compared."""
    setting = cell.setting
    teacher = setting.teacher.model if isinstance(setting.teacher, TeacherSpec) else setting.teacher
    known = models().get(str(setting.student))
    student = (known and known.form_of) or setting.student
    parts = (setting.data, cell.metric, student, setting.student_weights, teacher)
    return tuple(map(str, parts))


def method_names(cell: Cell) -> tuple[str, ...]:
    """Return the methods of a cell as its manifest names them, without options."""
    method = cell.setting.method
    if isinstance(method, str):
        return tuple(name.strip() for name in method.split("+"))
    if isinstance(method, dict):
        return tuple(method)
    named = (item if isinstance(item, dict) else (item,) for item in method or ())
    return tuple(str(name) for item in named for name in item)


def gains(contenders: Sequence[Contender], rules: Rules) -> Iterator[Gain]:
    """Yield every published gain over the student and over MSE, with ours."""
    for contest in _contests(contenders):
        for item in contest:
            if method_names(item.cell) in (("none",), ()):
                continue
            for name, over in BASES.items():
                base = _base(item, contest, name)
                if base is not None and method_names(item.cell) != (name,):
                    yield _gain(item, base, over, rules)


def _contests(contenders: Iterable[Contender]) -> list[list[Contender]]:
    found: dict[Contest, list[Contender]] = defaultdict(list)
    for item in contenders:
        if item.cell.setting.subject != "teacher":
            found[contest_of(item.cell)].append(item)
    return list(found.values())


def _base(item: Contender, contest: Sequence[Contender], name: str) -> Contender | None:
    """Return the base row of the same group, else the only base row, else None."""
    bases = [other for other in contest if method_names(other.cell) == (name,)]
    near = [other for other in bases if other.cell.group == item.cell.group]
    chosen = near or bases
    return chosen[0] if len(chosen) == 1 else None


def _gain(item: Contender, base: Contender, over: Over, rules: Rules) -> Gain:
    published = PublishedGain.between(item.published, base.published)
    judgement = judge_gain(published, item.achieved, base.achieved, rules, item.blocked or base.blocked)
    return Gain(
        over=over,
        cell=item.cell.id,
        base=base.cell.id,
        row=line(item.cell),
        column=item.cell.column,
        published=published.value,
        achieved=None if judgement.gap is None else published.value + judgement.gap,
        judgement=judgement,
    )


def orderings(contenders: Sequence[Contender], rules: Rules) -> tuple[OrderReport | None, int]:
    """Judge the orderings of the paper's own rows against all rows; also return how many lack runs.

    Cited rows are not ordered among themselves: that is the subject of their sources, and each further ordering makes
    Holm's adjustment harder on the others. Equal printed numbers claim no ordering.
    """
    found, left_out = [], 0
    for contest in _contests(contenders):
        for first, second in combinations(contest, 2):
            own = "authors" in (first.cell.standing, second.cell.standing)
            if not own or first.published.value == second.published.value:
                continue
            if first.has_runs and second.has_runs:
                found.append(_ordering(first, second))
            else:
                left_out += 1
    return (judge_orderings(found, rules) if found else None), left_out


def expected_orderings(suite: Suite, achieved: Mapping[str, Sample], rules: Rules) -> tuple[OrderReport | None, int]:
    """Judge the orderings that a study declared before it ran; also return how many lack runs.

    `achieved` is by cell.
    """
    found, left_out = [], 0
    for column in suite.file.columns:
        cells = {cell.row: cell for cell in suite.cells if cell.column == column.column}
        for better, worse in filter(None, map(ordering_of, suite.file.expected)):
            first, second = cells[better], cells[worse]
            sides = achieved[first.id], achieved[second.id]
            if all(side.n or side.diverged for side in sides):
                found.append(Ordering(_name(first, second), *sides, str(first.setting.data), first.metric))
            else:
                left_out += 1
    return (judge_orderings(found, rules) if found else None), left_out


def _ordering(first: Contender, second: Contender) -> Ordering:
    better, worse = sorted((first, second), key=lambda item: -item.published.value)
    return Ordering(
        name=_name(better.cell, worse.cell),
        better=better.achieved,
        worse=worse.achieved,
        data=better.published.data,
        metric=better.published.metric,
    )


def _name(better: Cell, worse: Cell) -> str:
    if better.column == worse.column:
        return f"{line(better)} above {line(worse)}, {better.column}"
    if line(better) == line(worse):
        return f"{better.column} above {worse.column}, {line(better)}"
    return f"{line(better)} {better.column} above {line(worse)} {worse.column}"
