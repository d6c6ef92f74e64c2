"""Printing of lists for a terminal and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path


def print_rows(rows: Sequence[Mapping[str, object]], as_json: bool, columns: Sequence[str] = ()) -> None:
    """Print rows as JSON, or as aligned columns. `columns` selects some; by default all columns of the first row."""
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False, default=str))
        return
    if not rows:
        return
    names = list(columns or rows[0])
    lines = [names, *[[_text(row.get(name)) for name in names] for row in rows]]
    widths = [max(len(line[index]) for line in lines) for index in range(len(names))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def near(path: Path) -> Path:
    """Return a path as seen from the current folder if it lies in there, else as it is."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
