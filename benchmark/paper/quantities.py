"""Numbers with their known exactness, and the answers of comparing them."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

EPSILON = 1e-9  # differences of printed decimals are off by some 1e-14 in binary
SHOWN_DECIMALS = 4


class ExpressionError(Exception):
    """An expression cannot be parsed, or names something that does not exist."""


@dataclass(frozen=True)
class Quantity:
    """A number and its known exactness.

    `digits`: the decimals that it is printed with; None if it is not a printed number. `rounding`: the largest change
    that printing may have made to it. `spread`: the error of a measured number, which `==` tolerates. `shown`: its
    computation as text.
    """

    value: float
    digits: int | None = None
    rounding: float = 0.0
    spread: float = 0.0
    shown: str = ""

    def __str__(self) -> str:
        digits = self.digits or 0
        whole, _, decimals = f"{self.value:.{max(SHOWN_DECIMALS, digits)}f}".partition(".")
        decimals = decimals.rstrip("0").ljust(digits, "0")
        return f"{whole}.{decimals}" if decimals else whole

    @property
    def text(self) -> str:
        """Return the number's computation as text, or the number itself."""
        return self.shown or str(self)


def as_printed(text: str) -> Quantity:
    """Parse a printed number and keep its precision: "64.60" has two decimals."""
    digits = len(text.partition(".")[2])
    return Quantity(float(text), digits, rounding=half_unit(digits))


def half_unit(digits: int) -> float:
    """Return half a unit of the last printed digit."""
    return 0.5 * 10.0**-digits


@dataclass(frozen=True)
class Missing:
    """A number that the lookup does not have. `cells` are the ids of the cells that lack it."""

    cells: frozenset[str]


@dataclass(frozen=True)
class Truth:
    """The answer to one comparison or to several together. `holds` is None if a number is missing.

    `claimed` and `computed` are the two numbers of the comparison; for several comparisons, the number that should
    hold and the number that do. `close` is True if rounding or spread alone could explain a failure.
    """

    holds: bool | None
    claimed: Quantity | None = None
    computed: Quantity | None = None
    text: str = ""
    exceptions: tuple[str, ...] = ()
    close: bool = False
    missing: frozenset[str] = frozenset()


MaybeQuantity = Quantity | Missing

Value: TypeAlias = "MaybeQuantity | Truth | str | tuple[Value, ...]"

ARITHMETIC: dict[type[ast.operator], tuple[str, Callable[[float, float], float]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
}

# For each comparison: its sign, its words if it holds, and its words if it does not.
_COMPARISONS: dict[type[ast.cmpop], tuple[str, str, str]] = {
    ast.Eq: ("==", "equals", "is not"),
    ast.NotEq: ("!=", "differs from", "equals"),
    ast.Gt: (">", "is above", "is not above"),
    ast.GtE: (">=", "is at least", "is below"),
    ast.Lt: ("<", "is below", "is not below"),
    ast.LtE: ("<=", "is at most", "is above"),
}


def truth_in(value: Value, where: str) -> Truth:
    """Return the value if it is an answer, else raise. `where` names what needs one, for the error."""
    if not isinstance(value, Truth):
        raise ExpressionError(f"{where} needs a comparison, not a number or a name")
    return value


def number_in(value: Value, where: str) -> MaybeQuantity:
    """Return the value if it is a number, known or missing, else raise. `where` names what needs one, for the error."""
    if not isinstance(value, Quantity | Missing):
        raise ExpressionError(f"{where} needs a number, not {value!r}")
    return value


def _coarser(*digits: int | None) -> int | None:
    return min((d for d in digits if d is not None), default=None)


def arithmetic(op: ast.operator, left: MaybeQuantity, right: MaybeQuantity) -> MaybeQuantity:
    """Compute with two numbers, and propagate their exactness. If one of them is missing, so is the result."""
    if isinstance(left, Missing) or isinstance(right, Missing):
        return missing_of([left, right])
    sign, function = ARITHMETIC[type(op)]
    if sign == "/" and right.value == 0:
        raise ExpressionError(f"division by zero: {left.text} / {right.text}")
    value, linear = function(left.value, right.value), sign in "+-"
    # Errors to first order: the derivatives of a sum are 1, those of a product or quotient depend on the operands.
    slopes = (
        (1.0, 1.0) if linear else (right.value, left.value) if sign == "*" else (1 / right.value, value / right.value)
    )
    errors = [(abs(slope), side) for slope, side in zip(slopes, (left, right), strict=True)]
    return Quantity(
        value=value,
        digits=_coarser(left.digits, right.digits) if linear else None,
        rounding=sum(slope * side.rounding for slope, side in errors),
        spread=math.hypot(*(slope * side.spread for slope, side in errors)),
        shown=f"{_bracketed(left, sign)} {sign} {_bracketed(right, sign)}",
    )


def _bracketed(side: Quantity, sign: str) -> str:
    inside = side.text
    return f"({inside})" if " " in inside and sign != "+" and not inside.endswith(")") else inside


def missing_of(values: Iterable[Value]) -> Missing:
    """Return one missing number with the cells of all missing values."""
    return Missing(frozenset().union(*(value.cells for value in values if isinstance(value, Missing))))


def compared(op: ast.cmpop, left: MaybeQuantity, right: MaybeQuantity) -> Truth:
    """Compare two numbers. They are equal if they agree at the coarser of their two printed precisions."""
    if type(op) not in _COMPARISONS:
        raise ExpressionError(f"{type(op).__name__} is not part of the language")
    if isinstance(left, Missing) or isinstance(right, Missing):
        return Truth(None, missing=missing_of([left, right]).cells)
    sign, *words = _COMPARISONS[type(op)]
    gap = left.value - right.value
    digits = _coarser(left.digits, right.digits)
    spread = math.hypot(left.spread, right.spread)
    slack = (half_unit(digits) if digits is not None else 0.0) + spread
    holds = _holds(sign, gap, slack)
    return Truth(
        holds=holds,
        claimed=right,
        computed=left,
        text=f"{_worked(left)} {words[not holds]} {_worked(right)}",
        close=not holds and _could_hold(sign, gap, slack, left.rounding + right.rounding + spread),
    )


def _holds(sign: str, gap: float, slack: float) -> bool:
    """Return True if the gap, left minus right, agrees with the sign. Only `==` and `!=` use the slack."""
    match sign:
        case "==":
            return abs(gap) <= slack + EPSILON
        case "!=":
            return abs(gap) > slack + EPSILON
        case ">":
            return gap > EPSILON
        case ">=":
            return gap >= -EPSILON
        case "<":
            return gap < -EPSILON
    return gap <= EPSILON


def _could_hold(sign: str, gap: float, slack: float, doubt: float) -> bool:
    """Return True if the comparison would hold for a gap that differs from this one by at most the doubt."""
    if sign in ("==", "!="):
        # The smallest doubt could make two equal numbers differ, so it cannot excuse `!=`.
        return sign == "==" and _holds(sign, gap, slack + doubt)
    return any(_holds(sign, gap + shift, slack) for shift in (-doubt, doubt))


def _worked(side: Quantity) -> str:
    return f"{side.shown} = {side}" if side.shown else str(side)


def negated(truth: Truth) -> Truth:
    """Return the opposite answer. An unknown answer stays unknown."""
    holds = None if truth.holds is None else not truth.holds
    return replace(truth, holds=holds, text=f"not: {truth.text}", exceptions=(), close=False)


def conjunction(truths: Iterable[Truth]) -> bool | None:
    """Return False if an answer is False, else None if one is unknown, else True."""
    found = {truth.holds for truth in truths}
    return False if False in found else None if None in found else True


def all_of(truths: Sequence[Truth]) -> Truth:
    """Join answers into one that holds if all of them hold. Its two numbers are those of the first that fails."""
    if len(truths) == 1:
        return truths[0]
    decisive = next((truth for truth in truths if truth.holds is False), truths[0])
    return Truth(
        holds=conjunction(truths),
        claimed=decisive.claimed,
        computed=decisive.computed,
        text="; ".join(truth.text for truth in truths if truth.text),
        exceptions=tuple(line for truth in truths for line in truth.exceptions),
        close=all_close(truths),
        missing=all_missing(truths),
    )


def any_of(truths: Sequence[Truth]) -> Truth:
    """Return the first answer that holds. If none holds, return all of them joined into one that does not."""
    first = next((truth for truth in truths if truth.holds), None)
    if first is not None:
        return first
    holds = None if any(truth.holds is None for truth in truths) else False
    return replace(all_of(truths), holds=holds)


def all_close(truths: Iterable[Truth]) -> bool:
    """Return True if at least one answer fails, and rounding or spread alone could explain every failure."""
    failed = [truth for truth in truths if truth.holds is False]
    return bool(failed) and all(truth.close for truth in failed)


def all_missing(truths: Iterable[Truth]) -> frozenset[str]:
    """Return the ids of all cells whose numbers these answers lack."""
    return frozenset().union(*(truth.missing for truth in truths))
