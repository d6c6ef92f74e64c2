"""All published cells by table, looked up by the names of rows, columns and groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from benchmark.errors import nearest
from benchmark.paper.quantities import ExpressionError, Quantity, as_printed
from benchmark.paper.suite import Cell

Lookup = Callable[[Cell], Quantity | None]


def published(cell: Cell) -> Quantity | None:
    """Return the number that the paper prints, or None."""
    return None if cell.value is None else as_printed(f"{cell.value:.{cell.digits}f}")


class Board:
    """All cells by table. Its errors name the rows, columns or groups that exist."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        self._tables: dict[str, list[Cell]] = defaultdict(list)
        for cell in cells:
            self._tables[cell.table].append(cell)

    def cell(self, table: str, row: str, column: str | None = None, group: str | None = None) -> Cell:
        """Return the cell with these names. `column` and `group` may be left out if only one cell fits.

        Raises:
            ExpressionError: no cell or more than one cell fits.
        """
        found = self._of(table)
        for kind, wanted in (("group", group), ("row", row), ("column", column)):
            found = self._narrow(found, kind, wanted, table)
        if len(found) > 1:
            kinds = ("group", "column", "row", "suite")
            kind = next(kind for kind in kinds if len({getattr(c, kind) for c in found}) > 1)
            names = sorted({getattr(c, kind) for c in found})
            if kind == "suite":
                raise ExpressionError(f"several suites have the table {table}: {', '.join(names)}")
            raise ExpressionError(f"table {table} has {row!r} more than once; add {kind}=, one of {names}")
        return found[0]

    def names(
        self, kind: str, table: str, group: str | None = None, containing: str = "", without: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Return the names of a table's rows, columns or groups, in the paper's order.

        Only names that contain `containing` are returned, and none that begins with a text of `without`.
        """
        found = self._narrow(self._of(table), "group", group, table)
        names = dict.fromkeys(getattr(cell, kind) for cell in found)
        dropped = tuple((without,) if isinstance(without, str) else without)
        return tuple(name for name in names if containing in name and not name.startswith(dropped))

    def _of(self, table: str) -> list[Cell]:
        if table not in self._tables:
            raise ExpressionError(f"there is no table {table!r}; {nearest(table, self._tables)}")
        return self._tables[table]

    @staticmethod
    def _narrow(cells: list[Cell], kind: str, wanted: str | None, table: str) -> list[Cell]:
        if wanted is None:
            return cells
        found = [cell for cell in cells if getattr(cell, kind) == wanted]
        if not found:
            names = {getattr(cell, kind) for cell in cells}
            raise ExpressionError(f"table {table} has no {kind} {wanted!r} here; {nearest(wanted, names)}")
        return found
