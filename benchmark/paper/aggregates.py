"""The functions of the claims' language that turn many values into one: `all`, `count`, `mean` and others."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from dataclasses import replace

from benchmark.paper.quantities import (
    ExpressionError,
    MaybeQuantity,
    Missing,
    Quantity,
    Truth,
    Value,
    all_close,
    all_missing,
    arithmetic,
    conjunction,
    missing_of,
    number_in,
    truth_in,
)

Items = list[tuple[str, Value]]


def _counted(items: Items, name: str) -> tuple[list[Truth], int]:
    if not items:
        raise ExpressionError(f"{name}() has no values: its loop runs over no names")
    truths = [truth_in(value, f"{name}()") for _, value in items]
    return truths, sum(truth.holds is True for truth in truths)


def _every(items: Items) -> Truth:
    truths, true = _counted(items, "all")
    failed = [(label, truth) for (label, _), truth in zip(items, truths, strict=True) if truth.holds is False]
    return Truth(
        holds=conjunction(truths),
        claimed=Quantity(len(items), 0),
        computed=Quantity(true, 0),
        text=f"{true} of {len(items)} hold",
        exceptions=tuple(f"{label}: {truth.text}" if label else truth.text for label, truth in failed),
        close=all_close(truths),
        missing=all_missing(truths),
    )


def _any(items: Items) -> Truth:
    truths, true = _counted(items, "any")
    unknown = any(truth.holds is None for truth in truths)
    return Truth(
        holds=True if true else None if unknown else False,
        claimed=Quantity(1, 0),
        computed=Quantity(true, 0),
        text=f"{true} of {len(items)} hold, one is needed",
        close=not true and any(truth.close for truth in truths),
        missing=all_missing(truths),
    )


def _count(items: Items) -> MaybeQuantity:
    if not any(isinstance(value, Truth) for _, value in items):
        return Quantity(len(items), 0)
    truths, true = _counted(items, "count")
    missing = all_missing(truths)
    return Missing(missing) if missing else Quantity(true, 0, shown=f"count({true} of {len(items)})")


def _share(items: Items) -> MaybeQuantity:
    truths, true = _counted(items, "share")
    missing = all_missing(truths)
    return Missing(missing) if missing else Quantity(true / len(items), shown=f"{true} of {len(items)}")


def _quantities(items: Items, name: str) -> list[Quantity] | Missing:
    if not items:
        raise ExpressionError(f"{name}() has no values: its loop runs over no names")
    values = [number_in(value, f"{name}()") for _, value in items]
    known = [value for value in values if isinstance(value, Quantity)]
    return known if len(known) == len(values) else missing_of(values)


def _extreme(name: str, pick: Callable[..., Quantity]) -> Callable[[Items], MaybeQuantity]:
    def extreme(items: Items) -> MaybeQuantity:
        values = _quantities(items, name)
        if isinstance(values, Missing):
            return values
        chosen = pick(values, key=lambda value: value.value)
        return replace(chosen, shown=f"{name}({', '.join(map(str, values))})") if len(values) > 1 else chosen

    return extreme


def _sum(items: Items, name: str = "sum", divisor: int = 1) -> MaybeQuantity:
    values = _quantities(items, name)
    if isinstance(values, Missing):
        return values
    return Quantity(
        value=math.fsum(value.value for value in values) / divisor,
        rounding=sum(value.rounding for value in values) / divisor,
        spread=math.hypot(*(value.spread for value in values)) / divisor,
        shown=f"{name}({', '.join(map(str, values))})",
    )


def _mean(items: Items) -> MaybeQuantity:
    return _sum(items, "mean", max(1, len(items)))


def _abs(items: Items) -> MaybeQuantity:
    values = _quantities(items, "abs")
    if isinstance(values, Missing):
        return values
    if len(values) != 1:
        raise ExpressionError(f"abs() takes one number, not {len(values)}")
    return replace(values[0], value=abs(values[0].value), shown=f"|{values[0].text}|")


def _ratio(items: Items) -> MaybeQuantity:
    if len(items) != 2:
        raise ExpressionError(f"ratio() takes two numbers, not {len(items)}")
    return arithmetic(ast.Div(), *(number_in(value, "ratio()") for _, value in items))


AGGREGATES: dict[str, Callable[[Items], Value]] = {
    "all": _every,
    "any": _any,
    "count": _count,
    "share": _share,
    "min": _extreme("min", min),
    "max": _extreme("max", max),
    "mean": _mean,
    "sum": _sum,
    "abs": _abs,
    "ratio": _ratio,
}
