"""Runs as the details of a cell list and draw them, from the table of all records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from pandas import DataFrame


@dataclass(frozen=True)
class ListedRun:
    """One run; `benchmark.records.dataframe.COLUMNS` says what its values mean. Missing ones are None."""

    repetition: int
    profile: str
    status: str
    reason: str
    last: Mapping[str, float]  # metrics after the last epoch
    best: Mapping[str, float]
    best_epoch: int | None
    seconds: float
    interruptions: int
    hardware: str | None
    commit: str | None
    dirty: bool
    finished: str
    contributor: str
    curves: str | None
    copies: int
    set_aside: str


_COLUMNS = [field.name for field in fields(ListedRun) if field.name not in ("last", "best")]


def listed(runs: DataFrame) -> dict[str, ListedRun]:
    """Return the runs of a table of records by id."""
    plain = runs.astype(object).where(runs.notna(), None)  # templates ask for None, not for pandas' missing values
    last, best = _metrics(plain, "last."), _metrics(plain, "best.")
    rows = {str(ident): row for ident, row in plain[_COLUMNS].to_dict("index").items()}
    return {
        ident: ListedRun(last=last[ident], best=best[ident], **{str(name): value for name, value in row.items()})
        for ident, row in rows.items()
    }


def _metrics(runs: DataFrame, kind: str) -> dict[str, dict[str, float]]:
    found = runs[[name for name in runs.columns if name.startswith(kind)]].to_dict("index")
    return {
        str(ident): {str(name).removeprefix(kind): value for name, value in row.items() if value is not None}
        for ident, row in found.items()
    }
