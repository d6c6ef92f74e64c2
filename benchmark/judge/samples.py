"""The two sides of a comparison: numbers as a source prints them, and the values of our repetitions.

Higher is better for every metric here: accuracies, AP and mIoU, all in percent. Costs, where lower is better, are
static cells, which are only equal or different.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmark.errors import UsageError
from benchmark.judge import stats

EpochChoice = Literal["last", "best", "unknown"]


@dataclass(frozen=True)
class Published:
    """A published number as its source prints it, in percent."""

    value: float
    digits: int  # after the decimal point; rounding may have moved the value by half of the last one
    data: str
    metric: str
    std: float | None = None
    runs: int | None = None  # that it is the mean of; None if the source does not say, judged as one run

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


@dataclass(frozen=True)
class Sample:
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
                f"repetitions {numbers} were given for {len(self.values)} values",
                "give one repetition number for each value",
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
                "metrics are in percent, from 0 to 100; fix the record or the manifest",
            )
