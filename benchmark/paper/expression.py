"""A small, safe language over the published cells, in which the checks of suites/claims.yaml are written.

An expression is parsed as Python, but only these parts are allowed: numbers, texts, `+ - * /`, comparisons,
`and or not`, generator expressions, and the functions below. A comparison keeps both of its numbers, and a number keeps
its printed digits, so that an answer can show what it was computed from. `==` compares at the coarser of the two
printed precisions.

    cell(table, row, column, group=)    one number        rows(table, group=, containing=, without=)   names of rows
    number(name)                        a stated number   columns(table, ...), groups(table, ...)      likewise
    printed(table, row, column, group=) is it printed?    all any count share min max mean sum abs ratio
    std(table, row, column, group=)     its printed spread
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from benchmark.errors import nearest
from benchmark.paper.aggregates import AGGREGATES
from benchmark.paper.board import Board, Lookup, published
from benchmark.paper.quantities import (
    ARITHMETIC,
    ExpressionError,
    MaybeQuantity,
    Missing,
    Quantity,
    Truth,
    Value,
    all_of,
    any_of,
    arithmetic,
    as_printed,
    compared,
    negated,
    number_in,
    truth_in,
)


@dataclass
class Evaluator:
    """The evaluator of expressions.

    `board` finds a cell by its names, `lookup` gives the number of a cell, `numbers` are the stated numbers, and
    `names` are the lists that expressions may loop over.
    """

    board: Board
    lookup: Lookup = published
    numbers: Mapping[str, Quantity] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    read: dict[str, None] = field(default_factory=dict)  # ids of the cells read, in order

    def truth(self, source: str) -> Truth:
        """Return the answer to one check.

        Raises:
            ExpressionError: the check cannot be parsed, is not in the language, or names a cell that does not exist.
        """
        try:
            tree = ast.parse(source.strip(), mode="eval")
        except SyntaxError as error:
            raise ExpressionError(f"cannot read the check: {error.msg} at {(error.text or '').strip()!r}") from error
        return truth_in(self._value(tree.body, dict(self.names), source.strip()), "the whole check")

    def _value(self, node: ast.expr, scope: dict[str, Value], source: str) -> Value:
        def inner(child: ast.expr) -> Value:
            return self._value(child, scope, source)

        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
                # A number in a check keeps its printed digits, but it is exact: nothing was rounded.
                return replace(as_printed(ast.get_source_segment(source, node) or ""), rounding=0.0)
            case ast.Name(id=name):
                if name not in scope:
                    raise ExpressionError(f"unknown name {name!r}; {nearest(name, scope)}")
                return scope[name]
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                return tuple(inner(element) for element in elements)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                value = number_in(inner(operand), "-")
                if isinstance(value, Missing):
                    return value
                return replace(value, value=-value.value, shown=f"-{value.shown}" if value.shown else "")
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return negated(truth_in(inner(operand), "not"))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
                return arithmetic(op, _operand(left, inner(left)), _operand(right, inner(right)))
            case ast.BoolOp(op=op, values=parts):
                truths = [truth_in(inner(part), "and / or") for part in parts]
                return all_of(truths) if isinstance(op, ast.And) else any_of(truths)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                sides = [number_in(inner(side), "a comparison") for side in (left, *comparators)]
                return all_of([compared(op, *pair) for op, *pair in zip(ops, sides, sides[1:], strict=False)])
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
        known = self._cell_functions() | AGGREGATES
        if name not in known:
            raise ExpressionError(f"unknown function {name!r}; {nearest(name, known)}")
        if name in AGGREGATES:
            if keywords:
                raise ExpressionError(f"{name}() has no argument {keywords[0].arg!r}")
            return AGGREGATES[name](list(self._items(args, scope, source)))
        named = {str(keyword.arg): self._value(keyword.value, scope, source) for keyword in keywords}
        given = [self._value(arg, scope, source) for arg in args]
        for value in (*given, *named.values()):
            if not isinstance(value, str | tuple):
                raise ExpressionError(f"{name}() takes names in quotes, not {value!r}")
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

    def _cell(self, table: str, row: str, column: str | None = None, group: str | None = None) -> MaybeQuantity:
        cell = self.board.cell(table, row, column, group)
        self.read[cell.id] = None
        return self.lookup(cell) or Missing(frozenset({cell.id}))

    def _std(self, table: str, row: str, column: str | None = None, group: str | None = None) -> MaybeQuantity:
        cell = self.board.cell(table, row, column, group)
        return Missing(frozenset({f"{cell.id} (spread)"})) if cell.std is None else Quantity(cell.std)

    def _stated(self, name: str) -> Quantity:
        if name not in self.numbers:
            raise ExpressionError(f"`numbers` has no {name!r}; {nearest(name, self.numbers)}")
        return self.numbers[name]

    def _items(self, args: list[ast.expr], scope: dict[str, Value], source: str) -> Iterator[tuple[str, Value]]:
        """Yield the values of a function's arguments, each with a label of the loop values that it was computed for."""
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
            raise ExpressionError(f"cannot loop over {ast.get_source_segment(source, first.iter)}: it is not a list")
        for item in items:
            inner = scope | _bound(first.target, item)
            if all(truth_in(self._value(test, inner, source), "if").holds for test in first.ifs):
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


def _operand(node: ast.expr, value: Value) -> MaybeQuantity:
    # A constant operand, such as the 2 of `2 * x`, must not make the result as coarse as its own digits.
    number = number_in(value, "arithmetic")
    return replace(number, digits=None) if isinstance(number, Quantity) and isinstance(node, ast.Constant) else number
