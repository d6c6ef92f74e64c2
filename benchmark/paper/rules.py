"""The rules of judging, read from suites/rules.yaml: margins, spreads, levels and the teacher gate, with sources."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError, model_validator

from benchmark.errors import UsageError, nearest
from benchmark.machine.shipped import SUITES
from benchmark.paper.yamlfile import Strict, YamlFile

RULES = SUITES / "rules.yaml"


class SourcedNumber(Strict):
    """A number of the rules, its source, and the reason for its size."""

    value: float = Field(gt=0, allow_inf_nan=False)
    source: str = Field(min_length=1)
    reason: str = Field(min_length=1)


class Confidence(SourcedNumber):
    """A probability: 0.90 is 90 %."""

    value: float = Field(gt=0.5, lt=1)


class Confidences(Strict):
    """The confidence that each kind of statement needs."""

    equivalence: Confidence
    prediction: Confidence
    ordering: Confidence
    power: Confidence


class Scale(Strict):
    """The margin and spreads for some metrics of a data set, in points of these metrics."""

    data: str
    metrics: tuple[str, ...] = Field(min_length=1)
    margin: SourcedNumber
    spread_floor: SourcedNumber
    typical_spread: SourcedNumber

    @model_validator(mode="after")
    def _ordered(self) -> Scale:
        if self.spread_floor.value > self.typical_spread.value:
            raise ValueError(
                f"spread_floor {self.spread_floor.value} exceeds typical_spread {self.typical_spread.value}: "
                "the floor would replace the usual spread of runs"
            )
        return self


class Tolerance(Strict):
    """The largest accepted gap between a teacher's accuracy and the published one, for some metrics."""

    metrics: tuple[str, ...] = Field(min_length=1)
    tolerance: SourcedNumber


class TeacherGate(Strict):
    """The conditions under which a teacher counts as the published one."""

    pinned: SourcedNumber
    trained: tuple[Tolerance, ...]

    def tolerance(self, metric: str, *, pinned: bool) -> float:
        """Return the largest accepted gap to the published accuracy.

        The published accuracy of pinned weights is the one that their source states, that of trained ones the paper's.
        """
        if pinned:
            return self.pinned.value
        known = {name: entry.tolerance.value for entry in self.trained for name in entry.metrics}
        if metric not in known:
            raise UsageError(f"teacher_gate in suites/rules.yaml knows no metric {metric!r}", nearest(metric, known))
        return known[metric]


class Rules(Strict):
    """The content of suites/rules.yaml."""

    levels: Confidences
    minimum_repetitions: SourcedNumber
    consistent_within: SourcedNumber
    scales: tuple[Scale, ...]
    teacher_gate: TeacherGate

    @model_validator(mode="after")
    def _unambiguous(self) -> Rules:
        if self.minimum_repetitions.value < 2 or self.minimum_repetitions.value % 1:
            raise ValueError("minimum_repetitions must be a whole number of at least 2: one run has no spread")
        named = [(scale.data, metric) for scale in self.scales for metric in scale.metrics]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(f"scales name {' '.join(twice[0])} twice")
        return self

    def scale(self, data: str, metric: str) -> Scale:
        """Return the scale of a metric on a data set.

        Raises:
            UsageError: the rules have none. The error names the closest pair of data set and metric.
        """
        for scale in self.scales:
            if scale.data == data and metric in scale.metrics:
                return scale
        known = [f"{scale.data} {name}" for scale in self.scales for name in scale.metrics]
        raise UsageError(f"suites/rules.yaml has no rule for {data} {metric}", nearest(f"{data} {metric}", known))

    @property
    def least(self) -> int:
        """Return the smallest number of repetitions with which a cell is judged."""
        return int(self.minimum_repetitions.value)


@cache
def load_rules(path: Path = RULES) -> Rules:
    """Read and check the rules.

    Raises:
        UsageError: the file has mistakes. The error lists all, each with its line.
    """
    file = YamlFile(path)
    try:
        rules = Rules.model_validate(file.data)
    except ValidationError as error:
        for problem in error.errors():
            place = ".".join(map(str, problem["loc"])) or "rules"
            file.complain(file.written(problem["loc"]), f"{place}: {problem['msg'].lower()}{_given(problem['input'])}")
        file.check("correct these lines; the comment at the head of suites/rules.yaml explains the file")
        raise
    file.check("keep one of the two")  # without problems of types, only keys that are given twice can be left
    return rules


def _given(value: object) -> str:
    return "" if isinstance(value, dict | list | BaseModel) else f" (got {value!r})"
