"""`doctor`: what is installed, found and missing, and the command that fixes it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
from importlib import metadata

from benchmark.cli import requests
from benchmark.cli.output import print_rows
from benchmark.cli.planning import store_of
from benchmark.data.inventory import inventory
from benchmark.errors import BenchmarkError
from benchmark.machine import provenance
from benchmark.machine.shipped import INSTALLED, RESULTS, SHIPPED
from benchmark.models import openmmlab
from benchmark.paper.manifest import suite_files

REQUIRED = ("torch", "torchvision", "timm", "pydantic", "PyYAML", "numpy", "pandas", "scipy", "rich")
OPTIONAL = {"pytest": "make test", "ruff": "make test", "mypy": "make test"}
LOW_DISK_GB = 5.0


def main(arguments: requests.Doctor) -> int:
    """Print every check. Return 1 if something is missing that a run needs, else 0."""
    rows = [
        *_python(),
        *_packages(),
        *_devices(),
        *_dense(),
        *_data(arguments),
        *_folders(arguments),
        *_shipped(),
        *_code(),
    ]
    print_rows(rows, arguments.json)
    return 0 if all(row["state"] != "MISSING" for row in rows) else 1


def _row(what: str, state: str, found: object, fix: str = "") -> dict[str, object]:
    return {"what": what, "state": state, "found": found, "fix": fix}


def _python() -> list[dict[str, object]]:
    right = (3, 11) <= sys.version_info[:2] < (3, 14)
    return [
        _row(
            "python",
            "ok" if right else "MISSING",
            provenance.packages()["python"],
            "" if right else "use Python 3.11, 3.12 or 3.13: make PYTHON=python3.12",
        )
    ]


def _packages() -> list[dict[str, object]]:
    rows = []
    for name in (*REQUIRED, *OPTIONAL):
        try:
            rows.append(_row(name, "ok", metadata.version(name)))
        except metadata.PackageNotFoundError:
            needed = name in REQUIRED
            rows.append(_row(name, "MISSING" if needed else "absent", "-", "make setup"))
    return rows


def _devices() -> list[dict[str, object]]:
    rows = [_row("cpu", "ok", f"{provenance.hardware()['cpu']}, {os.cpu_count()} cores")]
    if importlib.util.find_spec("torch") is None:
        return rows
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    fix = "" if names else "not needed, runs use the CPU; for a GPU install its driver and a CUDA build of torch"
    return [*rows, _row("cuda", "ok" if names else "absent", ", ".join(names) or "-", fix)]


def _dense() -> list[dict[str, object]]:
    """Return rows on the packages of detection and segmentation, and on the operators that mmcv would use."""
    if absent := openmmlab.missing():
        return [_row("dense tasks", "absent", f"{', '.join(absent)} not installed", openmmlab.FIX)]
    from benchmark.models import mmcv_ops

    found = ", ".join(f"{name} {version}" for name, version in openmmlab.versions().items())
    return [_row("dense tasks", "ok", found), _row("mmcv operators", "ok", mmcv_ops.in_use())]


def _data(arguments: requests.Doctor) -> list[dict[str, object]]:
    return [_row(entry.title, entry.state, entry.line, entry.fix) for entry in inventory(arguments.data_dir)]


def _folders(arguments: requests.Doctor) -> list[dict[str, object]]:
    store = store_of(arguments)
    absent = [folder for folder in (store.results, store.runs) if not folder.exists()]
    try:
        store.prepare()
    except BenchmarkError as error:
        return [_row("folders", "MISSING", error.message, error.fix)]
    finally:
        for folder in absent:  # `prepare` made it; left empty, it would look like a folder whose records are lost
            with contextlib.suppress(OSError):
                folder.rmdir()
    free = shutil.disk_usage(next(folder for folder in (store.runs, *store.runs.parents) if folder.exists())).free / 1e9
    low = free < LOW_DISK_GB
    return [
        _row(
            "disk",
            "LOW" if low else "ok",
            f"{free:.0f} GB free in {store.runs}",
            "free some space, or choose another disk with --runs-dir" if low else "",
        )
    ]


def _shipped() -> list[dict[str, object]]:
    records = sum(1 for _ in RESULTS.rglob("r*.json"))
    how = "installed with the program" if INSTALLED else "this checkout"
    return [_row("suites", "ok", f"{len(suite_files())}, and {records} committed records, in {SHIPPED} ({how})")]


def _code() -> list[dict[str, object]]:
    revision = provenance.revision()
    if revision["commit"] is None:
        return [_row("revision", "absent", "no git repository: records will name only the hash of the source")]
    note = ", with uncommitted changes, which records will show as dirty" if revision["dirty"] else ""
    return [_row("revision", "ok", f"{str(revision['commit'])[:12]}{note}")]
