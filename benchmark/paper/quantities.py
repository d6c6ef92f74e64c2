"""Numbers with what is known of their exactness, and what comparing them says."""

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
    """The error of an expression that cannot be read, or that names what does not exist."""


@dataclass(frozen=True)
class Quantity:
    """A number and its known exactness.

    `digits`: decimals it is printed with, None if it is not a printed number. `rounding`: the most that printing may
    have moved it. `spread`: the error of a measured number, which an equality allows for. `shown`: its computation as
    text.
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
    """Return a number as a text prints it: 64.60 has two decimals."""
    digits = len(text.partition(".")[2])
    return Quantity(float(text), digits, rounding=half_unit(digits))


def half_unit(digits: int) -> float:
    """Return half a unit of the last printed digit."""
    return 0.5 * 10.0**-digits


@dataclass(frozen=True)
class Missing:
    """A number that the lookup does not have; `cells` are the ids asked for."""

    cells: frozenset[str]


@dataclass(frozen=True)
class Truth:
    """The answer to a comparison, or to several: `holds` is None if a number is missing.

    `claimed` and `computed` are its two numbers: those of the comparison, or how many should hold and how many do.
    `close` says that a failure could be due to rounding or spread alone.
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

# Sign, and how a comparison reads where it holds and where it does not.
_COMPARISONS: dict[type[ast.cmpop], tuple[str, str, str]] = {
    ast.Eq: ("==", "equals", "is not"),
    ast.NotEq: ("!=", "differs from", "equals"),
    ast.Gt: (">", "is above", "is not above"),
    ast.GtE: (">=", "is at least", "is below"),
    ast.Lt: ("<", "is below", "is not below"),
    ast.LtE: ("<=", "is at most", "is above"),
}


def truth_in(value: Value, where: str) -> Truth:
    """Return the value if it is an answer, else raise: `where` says what needed one."""
    if not isinstance(value, Truth):
        raise ExpressionError(f"{where} needs a comparison, not a number or a name")
    return value


def number_in(value: Value, where: str) -> MaybeQuantity:
    """Return the value if it is a number, known or missing, else raise: `where` says what needed one."""
    if not isinstance(value, Quantity | Missing):
        raise ExpressionError(f"{where} needs a number, not {value!r}")
    return value


def _coarser(*digits: int | None) -> int | None:
    return min((d for d in digits if d is not None), default=None)


def arithmetic(op: ast.operator, left: MaybeQuantity, right: MaybeQuantity) -> MaybeQuantity:
    """Compute, and carry the exactness of both numbers into the result. What depends on a missing number is missing."""
    if isinstance(left, Missing) or isinstance(right, Missing):
        return missing_of([left, right])
    sign, function = ARITHMETIC[type(op)]
    if sign == "/" and right.value == 0:
        raise ExpressionError(f"division by zero: {left.text} / {right.text}")
    value, linear = function(left.value, right.value), sign in "+-"
    # First-order errors: derivatives of a sum are one, those of a product or a quotient follow from the operands.
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
    """Return one missing number for all the cells that these values miss."""
    return Missing(frozenset().union(*(value.cells for value in values if isinstance(value, Missing))))


def compared(op: ast.cmpop, left: MaybeQuantity, right: MaybeQuantity) -> Truth:
    """Compare two numbers: equal means equal at the coarser of the two printed precisions."""
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
    """Return True if left minus right agrees with the sign; only equalities have a slack."""
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
    """Return True if the comparison would hold for some gap that is off by less than the doubt."""
    if sign in ("==", "!="):
        # Any doubt at all could part two equal numbers: for them it is no excuse.
        return sign == "==" and _holds(sign, gap, slack + doubt)
    return any(_holds(sign, gap + shift, slack) for shift in (-doubt, doubt))


def _worked(side: Quantity) -> str:
    return f"{side.shown} = {side}" if side.shown else str(side)


def negated(truth: Truth) -> Truth:
    """Return the opposite answer. One that cannot be given stays so."""
    holds = None if truth.holds is None else not truth.holds
    return replace(truth, holds=holds, text=f"not: {truth.text}", exceptions=(), close=False)


def conjunction(truths: Iterable[Truth]) -> bool | None:
    """Return False if one fails, else None if one is missing, else True."""
    found = {truth.holds for truth in truths}
    return False if False in found else None if None in found else True


def all_of(truths: Sequence[Truth]) -> Truth:
    """Join answers into one that holds if all of them hold, and shows the first that does not."""
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
    """Return the first answer that holds, or else all of them joined."""
    first = next((truth for truth in truths if truth.holds), None)
    if first is not None:
        return first
    holds = None if any(truth.holds is None for truth in truths) else False
    return replace(all_of(truths), holds=holds)


def all_close(truths: Iterable[Truth]) -> bool:
    """Return True if some answers fail, and each that does could fail by rounding or spread alone."""
    failed = [truth for truth in truths if truth.holds is False]
    return bool(failed) and all(truth.close for truth in failed)


def all_missing(truths: Iterable[Truth]) -> frozenset[str]:
    """Return the ids of all cells that these answers miss."""
    return frozenset().union(*(truth.missing for truth in truths))
