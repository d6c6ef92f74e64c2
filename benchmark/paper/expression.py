"""A small, safe language over the published cells, in which the checks of suites/claims.yaml are written.

Python's grammar, a handful of its nodes and none of its names: numbers, texts, `+ - * /`, comparisons, `and or not`,
generator expressions and the functions below. A comparison keeps both of its numbers, and a number its printed digits,
so that an answer can show its basis. `==` means equal at the coarser of the two printed precisions.

    cell(table, row, column, group=)    one number        rows(table, group=, containing=, without=)   names of rows
    number(name)                        a stated number   columns(table, ...), groups(table, ...)      likewise
    printed(table, row, column, group=) is it printed?    all any count share min max mean sum abs ratio
    std(table, row, column, group=)     its printed spread
"""

from __future__ import annotations

import ast
import math
import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmark.errors import nearest
from benchmark.paper.suite import Cell

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


Number = Quantity | Missing
Value = Number | Truth | str | tuple[Any, ...]
Lookup = Callable[[Cell], Quantity | None]


def published(cell: Cell) -> Quantity | None:
    """Return the number that the paper prints, or None."""
    return None if cell.value is None else as_printed(f"{cell.value:.{cell.digits}f}")


class Board:
    """All cells by table, with errors that name the cells that exist."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        self._tables: dict[str, list[Cell]] = defaultdict(list)
        for cell in cells:
            self._tables[cell.table].append(cell)

    def cell(self, table: str, row: str, column: str | None = None, group: str | None = None) -> Cell:
        """Return the one cell of that name; `column` and `group` may be left out if only one cell remains."""
        found = self._of(table)
        for kind, wanted in (("group", group), ("row", row), ("column", column)):
            found = self._narrow(found, kind, wanted, table)
        if len(found) > 1:
            kinds = ("group", "column", "row", "suite")
            kind = next(kind for kind in kinds if len({getattr(c, kind) for c in found}) > 1)
            names = sorted({getattr(c, kind) for c in found})
            if kind == "suite":
                raise ExpressionError(f"table {table} is that of several suites: {', '.join(names)}")
            raise ExpressionError(f"table {table}: {row!r} is there more than once; add {kind}=, one of {names}")
        return found[0]

    def names(
        self, kind: str, table: str, group: str | None = None, containing: str = "", without: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Return a table's rows, columns or groups in the paper's order; `without` drops names that begin so."""
        found = self._narrow(self._of(table), "group", group, table)
        names = dict.fromkeys(getattr(cell, kind) for cell in found)
        dropped = tuple((without,) if isinstance(without, str) else without)
        return tuple(name for name in names if containing in name and not name.startswith(dropped))

    def _of(self, table: str) -> list[Cell]:
        if table not in self._tables:
            raise ExpressionError(f"no table {table!r}; {nearest(table, self._tables)}")
        return self._tables[table]

    @staticmethod
    def _narrow(cells: list[Cell], kind: str, wanted: str | None, table: str) -> list[Cell]:
        if wanted is None:
            return cells
        found = [cell for cell in cells if getattr(cell, kind) == wanted]
        if not found:
            names = {getattr(cell, kind) for cell in cells}
            raise ExpressionError(f"table {table} has no {kind} {wanted!r} there; {nearest(wanted, names)}")
        return found


_ARITHMETIC: dict[type[ast.operator], tuple[str, Callable[[float, float], float]]] = {
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


@dataclass
class Evaluator:
    """The evaluator of expressions against a board of cells, a lookup and some stated numbers."""

    board: Board
    lookup: Lookup = published
    numbers: Mapping[str, Quantity] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    read: dict[str, None] = field(default_factory=dict)  # ids of the cells read, in order

    def truth(self, source: str) -> Truth:
        """Return the answer to one check.

        Raises:
            ExpressionError: the check cannot be parsed, uses something outside the language, or names no existing cell.
        """
        try:
            tree = ast.parse(source.strip(), mode="eval")
        except SyntaxError as error:
            raise ExpressionError(f"cannot read the check: {error.msg} at {(error.text or '').strip()!r}") from error
        return _truth(self._value(tree.body, dict(self.names), source.strip()), "the whole check")

    def _value(self, node: ast.expr, scope: dict[str, Value], source: str) -> Value:
        def inner(child: ast.expr) -> Value:
            return self._value(child, scope, source)

        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
                # Written numbers keep their digits, but are no roundings of anything.
                return replace(as_printed(ast.get_source_segment(source, node) or ""), rounding=0.0)
            case ast.Name(id=name):
                if name not in scope:
                    raise ExpressionError(f"unknown name {name!r}; {nearest(name, scope)}")
                return scope[name]
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                return tuple(inner(element) for element in elements)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                value = _number(inner(operand), "-")
                if isinstance(value, Missing):
                    return value
                return replace(value, value=-value.value, shown=f"-{value.shown}" if value.shown else "")
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return _negated(_truth(inner(operand), "not"))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return _arithmetic(op, _operand(left, inner(left)), _operand(right, inner(right)))
            case ast.BoolOp(op=op, values=parts):
                truths = [_truth(inner(part), "and / or") for part in parts]
                return _joined(truths) if isinstance(op, ast.And) else _some(truths)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                sides = [_number(inner(side), "a comparison") for side in (left, *comparators)]
                return _joined([_compare(op, *pair) for op, *pair in zip(ops, sides, sides[1:], strict=False)])
            case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
                return self._call(name, args, keywords, scope, source)
        raise ExpressionError(
            f"{type(node).__name__} is not part of the language: {ast.get_source_segment(source, node)}"
        )

    def _call(
        self,
        name: str,
        args: list[ast.expr],
        keywords: list[ast.keyword],
        scope: dict[str, Value],
        source: str,
    ) -> Value:
        known = self._cell_functions() | _AGGREGATES
        if name not in known:
            raise ExpressionError(f"unknown function {name!r}; {nearest(name, known)}")
        if name in _AGGREGATES:
            if keywords:
                raise ExpressionError(f"{name} takes no {keywords[0].arg!r}")
            return _AGGREGATES[name](list(self._items(args, scope, source)))
        named = {str(keyword.arg): self._value(keyword.value, scope, source) for keyword in keywords}
        given = [self._value(arg, scope, source) for arg in args]
        for value in (*given, *named.values()):
            if not isinstance(value, str | tuple):
                raise ExpressionError(f"{name} takes names in quotes")
        try:
            return known[name](*given, **named)
        except TypeError as error:
            raise ExpressionError(f"{name}: {error}") from error

    def _cell_functions(self) -> dict[str, Callable[..., Value]]:
        return {
            "cell": self._cell,
            "std": self._std,
            "number": self._stated,
            "printed": lambda *names, **more: Truth(self.board.cell(*names, **more).value is not None),
            "rows": lambda *names, **more: self.board.names("row", *names, **more),
            "columns": lambda *names, **more: self.board.names("column", *names, **more),
            "groups": lambda *names, **more: self.board.names("group", *names, **more),
        }

    def _cell(self, table: str, row: str, column: str | None = None, group: str | None = None) -> Number:
        cell = self.board.cell(table, row, column, group)
        self.read[cell.id] = None
        return self.lookup(cell) or Missing(frozenset({cell.id}))

    def _std(self, table: str, row: str, column: str | None = None, group: str | None = None) -> Number:
        cell = self.board.cell(table, row, column, group)
        return Missing(frozenset({f"{cell.id} (spread)"})) if cell.std is None else Quantity(cell.std)

    def _stated(self, name: str) -> Quantity:
        if name not in self.numbers:
            raise ExpressionError(f"no number {name!r} is stated; {nearest(name, self.numbers)}")
        return self.numbers[name]

    def _items(self, args: list[ast.expr], scope: dict[str, Value], source: str) -> Iterator[tuple[str, Value]]:
        """Yield a function's arguments, each with the loop values that it belongs to."""
        for arg in args:
            if isinstance(arg, ast.GeneratorExp):
                for label, inner in self._loop(arg.generators, scope, source, ()):
                    yield ", ".join(label), self._value(arg.elt, inner, source)
                continue
            value = self._value(arg, scope, source)
            yield from (("", item) for item in (value if isinstance(value, tuple) else (value,)))

    def _loop(
        self, generators: list[ast.comprehension], scope: dict[str, Value], source: str, label: tuple[str, ...]
    ) -> Iterator[tuple[tuple[str, ...], dict[str, Value]]]:
        if not generators:
            yield label, scope
            return
        first, *rest = generators
        items = self._value(first.iter, scope, source)
        if not isinstance(items, tuple):
            raise ExpressionError(f"cannot loop over {ast.get_source_segment(source, first.iter)}")
        for item in items:
            inner = scope | _bound(first.target, item)
            if all(_truth(self._value(test, inner, source), "if").holds for test in first.ifs):
                yield from self._loop(rest, inner, source, (*label, *_labels(item)))


def _bound(target: ast.expr, item: Value) -> dict[str, Value]:
    match target:
        case ast.Name(id=name):
            return {name: item}
        case ast.Tuple(elts=parts) if isinstance(item, tuple) and len(parts) == len(item):
            return {
                name: value for part, one in zip(parts, item, strict=True) for name, value in _bound(part, one).items()
            }
    raise ExpressionError(f"cannot bind {ast.unparse(target)} to {item!r}")


def _labels(item: Value) -> Iterator[str]:
    if isinstance(item, tuple):
        for part in item:
            yield from _labels(part)
    elif item:
        yield str(item)


def _truth(value: Value, where: str) -> Truth:
    if not isinstance(value, Truth):
        raise ExpressionError(f"{where} needs a comparison, not a number or a name")
    return value


def _number(value: Value, where: str) -> Number:
    if not isinstance(value, Quantity | Missing):
        raise ExpressionError(f"{where} needs a number, not {value!r}")
    return value


def _operand(node: ast.expr, value: Value) -> Number:
    # The 2 of `2 * x` says nothing about the precision of x.
    number = _number(value, "arithmetic")
    return replace(number, digits=None) if isinstance(number, Quantity) and isinstance(node, ast.Constant) else number


def _coarser(*digits: int | None) -> int | None:
    return min((d for d in digits if d is not None), default=None)


def _arithmetic(op: ast.operator, left: Number, right: Number) -> Number:
    if isinstance(left, Missing) or isinstance(right, Missing):
        return _missing([left, right])
    sign, function = _ARITHMETIC[type(op)]
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


def _missing(values: Iterable[Value]) -> Missing:
    return Missing(frozenset().union(*(value.cells for value in values if isinstance(value, Missing))))


def _compare(op: ast.cmpop, left: Number, right: Number) -> Truth:
    if type(op) not in _COMPARISONS:
        raise ExpressionError(f"{type(op).__name__} is not part of the language")
    if isinstance(left, Missing) or isinstance(right, Missing):
        return Truth(None, missing=_missing([left, right]).cells)
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


def _negated(truth: Truth) -> Truth:
    holds = None if truth.holds is None else not truth.holds
    return replace(truth, holds=holds, text=f"not: {truth.text}", exceptions=(), close=False)


def _conjunction(truths: Iterable[Truth]) -> bool | None:
    """Return False if one fails, else None if one is missing, else True."""
    found = {truth.holds for truth in truths}
    return False if False in found else None if None in found else True


def _joined(truths: Sequence[Truth]) -> Truth:
    if len(truths) == 1:
        return truths[0]
    decisive = next((truth for truth in truths if truth.holds is False), truths[0])
    return Truth(
        holds=_conjunction(truths),
        claimed=decisive.claimed,
        computed=decisive.computed,
        text="; ".join(truth.text for truth in truths if truth.text),
        exceptions=tuple(line for truth in truths for line in truth.exceptions),
        close=_all_close(truths),
        missing=_all_missing(truths),
    )


def _some(truths: Sequence[Truth]) -> Truth:
    first = next((truth for truth in truths if truth.holds), None)
    if first is not None:
        return first
    holds = None if any(truth.holds is None for truth in truths) else False
    return replace(_joined(truths), holds=holds)


def _all_close(truths: Iterable[Truth]) -> bool:
    failed = [truth for truth in truths if truth.holds is False]
    return bool(failed) and all(truth.close for truth in failed)


def _all_missing(truths: Iterable[Truth]) -> frozenset[str]:
    return frozenset().union(*(truth.missing for truth in truths))


Items = list[tuple[str, Value]]


def _counted(items: Items, name: str) -> tuple[list[Truth], int]:
    if not items:
        raise ExpressionError(f"{name}() is given nothing: a loop over names that are not there")
    truths = [_truth(value, f"{name}()") for _, value in items]
    return truths, sum(truth.holds is True for truth in truths)


def _every(items: Items) -> Truth:
    truths, true = _counted(items, "all")
    failed = [(label, truth) for (label, _), truth in zip(items, truths, strict=True) if truth.holds is False]
    return Truth(
        holds=_conjunction(truths),
        claimed=Quantity(len(items), 0),
        computed=Quantity(true, 0),
        text=f"{true} of {len(items)} hold",
        exceptions=tuple(f"{label}: {truth.text}" if label else truth.text for label, truth in failed),
        close=_all_close(truths),
        missing=_all_missing(truths),
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
        missing=_all_missing(truths),
    )


def _count(items: Items) -> Number:
    if not any(isinstance(value, Truth) for _, value in items):
        return Quantity(len(items), 0)
    truths, true = _counted(items, "count")
    missing = _all_missing(truths)
    return Missing(missing) if missing else Quantity(true, 0, shown=f"count({true} of {len(items)})")


def _share(items: Items) -> Number:
    truths, true = _counted(items, "share")
    missing = _all_missing(truths)
    return Missing(missing) if missing else Quantity(true / len(items), shown=f"{true} of {len(items)}")


def _quantities(items: Items, name: str) -> list[Quantity] | Missing:
    if not items:
        raise ExpressionError(f"{name}() is given nothing: a loop over names that are not there")
    values = [_number(value, f"{name}()") for _, value in items]
    known = [value for value in values if isinstance(value, Quantity)]
    return known if len(known) == len(values) else _missing(values)


def _extreme(name: str, pick: Callable[..., Quantity]) -> Callable[[Items], Number]:
    def extreme(items: Items) -> Number:
        values = _quantities(items, name)
        if isinstance(values, Missing):
            return values
        chosen = pick(values, key=lambda value: value.value)
        return replace(chosen, shown=f"{name}({', '.join(map(str, values))})") if len(values) > 1 else chosen

    return extreme


def _sum(items: Items, name: str = "sum", divisor: int = 1) -> Number:
    values = _quantities(items, name)
    if isinstance(values, Missing):
        return values
    return Quantity(
        value=math.fsum(value.value for value in values) / divisor,
        rounding=sum(value.rounding for value in values) / divisor,
        spread=math.hypot(*(value.spread for value in values)) / divisor,
        shown=f"{name}({', '.join(map(str, values))})",
    )


def _mean(items: Items) -> Number:
    return _sum(items, "mean", max(1, len(items)))


def _abs(items: Items) -> Number:
    values = _quantities(items, "abs")
    if isinstance(values, Missing):
        return values
    if len(values) != 1:
        raise ExpressionError("abs takes one number")
    return replace(values[0], value=abs(values[0].value), shown=f"|{values[0].text}|")


def _ratio(items: Items) -> Number:
    if len(items) != 2:
        raise ExpressionError("ratio takes two numbers")
    return _arithmetic(ast.Div(), *(_number(value, "ratio()") for _, value in items))


_AGGREGATES: dict[str, Callable[[Items], Value]] = {
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
