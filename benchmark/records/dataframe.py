"""Records as one pandas table: one row for each, with its settings, metrics, cost and circumstances."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from pandas import DataFrame

from benchmark.records.evidence import RunView, collect
from benchmark.records.store import Store

# The columns in their order. After `best_epoch` come the metrics: `last.top1`, `best.top1`, ... in percent, and
# `tracked.kd`, ..., which are means over the last epoch. A metric has a column if any record has a value for it.
COLUMNS: Mapping[str, str] = {
    "id": "the index: identity and repetition; of a record that was set aside with a number, `...-r0~1`",
    "identity": "of the experiment",
    "repetition": "from 0",
    "profile": "paper, mini or smoke",
    "task": "classification, detection or segmentation",
    "data": "name of the data set",
    "teacher": "name of the teacher's network, None without a teacher",
    "student": "name of the student's network",
    "method": "name of the method, several joined by +",
    "options": "the method's options, as JSON",
    "recipe": "name of the training recipe, None where given weights were evaluated",
    "status": "done, diverged or skipped",
    "reason": "why the run was skipped, or where it diverged",
    "best_epoch": "the epoch with the best main metric, from 1",
    "seconds": "wall time over all attempts",
    "images_per_second": "training images, over the training time",
    "peak_memory_mb": "on a CPU: of the process so far, earlier runs included",
    "interruptions": "how often the run was restarted",
    "device": "for example cpu or cuda:0",
    "precision": "fp32, bf16 or fp16, as it was used",
    "hardware": "name of the accelerator, else of the processor",
    "commit": "revision of the program",
    "dirty": "whether files that change results differed from that revision",
    "source": "hash of the program's source",
    "weights_sha256": "of the exported student's tensors",
    "finished": "UTC, ISO 8601",
    "contributor": "who contributed the record; empty for the user's own",
    "path": "of the record",
    "curves": "path of the curves file (CSV, one row an epoch), None if there is none",
    "copies": "further records of the same run with the same outcome, which have no rows",
    "set_aside": "why the record does not count: another one of the same run was preferred; else empty",
}


def frame(*folders: Path) -> DataFrame:
    """Return every readable record below some folders as one row; COLUMNS says what the columns mean.

    Without folders, those of this work folder are read. Where two records of one run disagree, the one that counts has
    an empty `set_aside`, as in a report.
    """
    evidence = collect(folders or Store().folders)
    return frame_of(view for run in evidence.runs.values() for view in run.views())


def frame_of(views: Iterable[RunView]) -> DataFrame:
    """Return runs as one row each, by id."""
    listed = list(views)
    metrics = [_metrics(view) for view in listed]
    rows = [vars(view) | _settings(view) | found for view, found in zip(listed, metrics, strict=True)]
    names, after = list(COLUMNS), list(COLUMNS).index("best_epoch") + 1
    columns = [*names[:after], *dict.fromkeys(name for found in metrics for name in found), *names[after:]]
    return DataFrame(rows, columns=columns).astype({"best_epoch": "Int64"}).set_index("id")


def _metrics(view: RunView) -> dict[str, float]:
    kinds = {"last": view.last, "best": view.best, "tracked": view.tracked}
    return {f"{kind}.{name}": value for kind, found in kinds.items() for name, value in found.items()}


def _settings(view: RunView) -> dict[str, object]:
    """Return the columns that are parts of a run's fields."""
    described = view.experiment
    return {
        "task": described.task,
        "data": described.data.name,
        "teacher": described.teacher.model if described.teacher is not None else None,
        "student": described.student,
        "method": "+".join(described.method),
        "options": json.dumps(described.method, sort_keys=True),
        "recipe": described.recipe.name if described.recipe is not None else None,
        "device": view.effective.device,
        "precision": view.effective.precision,
        "hardware": view.hardware.accelerator or None,
        "commit": view.code.commit,
        "dirty": bool(view.code.dirty),
        "source": view.code.source_sha256 or None,
    }
