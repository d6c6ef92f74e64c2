"""The comparison as one flat CSV: one line for each cell and reference number that it is compared with."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from benchmark.judge.views import KINDS, CellEvidence, CellView, Comparison, Reference


def cells_csv(comparison: Comparison) -> str:
    """Return the CSV text of every cell; a cell without a reference has one line.

    Numbers are unrounded, missing ones empty.
    """
    rows = [row for cell in comparison.cells for row in _rows(cell)]
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _rows(cell: CellView) -> Iterator[dict[str, object]]:
    for reference in cell.references or (None,):
        yield {**_cell(cell), **_reference(reference)}


def _cell(cell: CellView) -> dict[str, object]:
    achieved = cell.achieved
    return {
        "id": cell.id,
        "suite": cell.suite,
        "group": cell.group,
        "row": cell.row,
        "column": cell.column,
        "data": cell.data,
        "metric": cell.metric,
        "standing": cell.standing,
        "method": cell.method,
        "recipe": cell.recipe,
        "experiment": cell.experiment,
        "achieved": cell.ours,
        "achieved_std": achieved.std if achieved else None,
        "n": achieved.n if achieved else None,
        "declared": achieved.declared if achieved else None,
        "diverged": achieved.diverged if achieved else None,
        "epoch": achieved.selection if achieved else None,
        "values": " ".join(f"{value:g}" for value in achieved.values) if achieved else "",
        "notes": "; ".join((*cell.notes, *filter(None, (cell.problem,)))),
        **_evidence(cell.evidence),
    }


def _evidence(evidence: CellEvidence) -> dict[str, object]:
    """Return each kind of evidence with its word; `evidence` is the strongest one."""
    source = evidence.source
    return {
        "evidence": str(evidence.best),
        **{column: evidence.word(kind) for kind, column in _KINDS.items()},
        "runs_by": "; ".join(f"{who} {count}" for who, count in evidence.whose.items()),
        "reruns_values": "; ".join(f"{rerun.printed} ({rerun.source}): {rerun.word}" for rerun in evidence.reruns),
        "source_reason": source.reason if source else "",
        "source_readings": "; ".join(f"{r.printed} ({r.source}): {r.kind}" for r in source.readings) if source else "",
    }


def _reference(reference: Reference | None) -> dict[str, object]:
    if reference is None:
        return {}
    judgement = reference.judgement
    return {
        "reference": reference.kind,
        "reference_source": reference.source,
        "printed": reference.printed,
        "published": reference.value,
        "published_std": reference.std,
        "published_runs": reference.runs,
        "gap": judgement.gap,
        "low": judgement.interval.low if judgement.interval else None,
        "high": judgement.interval.high if judgement.interval else None,
        "prediction": judgement.prediction,
        "margin": judgement.margin,
        "smallest_gap_seen": judgement.smallest_gap_seen,
        "convention": judgement.convention,
        "verdict": str(judgement.verdict),
        "reason": judgement.reason,
    }


_KINDS = {kind: kind.replace("-", "").replace(" ", "_") for kind in KINDS}  # the column of each kind's word
_COLUMNS = (
    *("id", "suite", "group", "row", "column", "data", "metric", "standing", "method", "recipe", "experiment"),
    *("reference", "reference_source", "printed", "published", "published_std", "published_runs"),
    *("achieved", "achieved_std", "n", "declared", "diverged", "epoch", "values"),
    *("gap", "low", "high", "prediction", "margin", "smallest_gap_seen", "convention", "verdict", "reason", "notes"),
    *("evidence", *_KINDS.values(), "runs_by", "reruns_values", "source_reason", "source_readings"),
)
