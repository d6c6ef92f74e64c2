"""`rerun`: make the run of a record again from the record alone, and say whether it comes out bit for bit."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import CHECK_FAILED, UsageError
from benchmark.records.store import Record, Unreadable, read_record

if TYPE_CHECKING:
    from benchmark.launch.rerun import Rerun
    from benchmark.train.settings import Settings


def main(arguments: argparse.Namespace) -> int:
    """Make the runs again. Return 0 if all of them come out equal, or the code of a failed check."""
    records = _records(arguments)
    found: list[Rerun] = []
    began = time.monotonic()
    with _folder(arguments.to) as folder:
        for record, path in records:
            spent = (time.monotonic() - began) / 3600
            if arguments.hours is not None and found and spent + record.seconds / 3600 > arguments.hours:
                print(f"{record.label}: left out, the {arguments.hours:g} hours are spent", file=sys.stderr)
                continue
            found.append(_again(record, path, folder, arguments))
    if arguments.json:
        print(json.dumps([asdict(one) for one in found], indent=1, ensure_ascii=False))
    else:
        print("\n".join(one.text() for one in found))
    equal = sum(one.equal for one in found)
    if len(records) > 1:
        print(f"{equal} of {len(found)} reruns are equal bit for bit", file=sys.stderr)
    return 0 if equal == len(found) else CHECK_FAILED


def _again(record: Record, path: Path, folder: Path, arguments: argparse.Namespace) -> Rerun:
    from benchmark.launch.progress import reporting
    from benchmark.launch.rerun import rerun
    from benchmark.machine.devices import pick_device
    from benchmark.train.settings import Settings

    device = pick_device(arguments.device or ("cuda" if record.effective.device.startswith("cuda") else "cpu"))
    plain = Settings(
        device=device,
        threads=arguments.threads,
        asked={"device": arguments.device or "as recorded"},
        data_dir=arguments.data_dir,
    )
    with reporting(plain, 1) as settings:
        return rerun(record, path, folder, _quiet(settings) if arguments.json else settings)


def _quiet(settings: Settings) -> Settings:
    from dataclasses import replace

    return replace(settings, say=lambda line: print(line, file=sys.stderr), progress=lambda progress: None)


def _records(arguments: argparse.Namespace) -> list[tuple[Record, Path]]:
    """Return the records that are named, or a sample of those below the folders that are named.

    Raises:
        UsageError: there is no such record, or it has no outcome that could come out again.
    """
    paths = [path for name in arguments.records for path in _paths(Path(name))]
    found: list[tuple[Record, Path]] = []
    for path in paths:
        record = read_record(path)
        if record is None or isinstance(record, Unreadable):
            why = "there is no such file" if record is None else record.reason
            raise UsageError(f"{path}: {why}", "name a record: results/PROFILE/.../r0.json")
        if record.status != "skipped":
            found.append((record, path))
    if not found:
        raise UsageError("no record of a run is named", "name a record, or a folder of records with --sample N")
    if arguments.sample is not None:
        found = random.Random(arguments.seed).sample(found, min(arguments.sample, len(found)))
    elif len(found) > len(arguments.records):
        raise UsageError(f"{len(found)} records lie below the folders that are named", "--sample N takes N of them")
    return found


def _paths(path: Path) -> list[Path]:
    return sorted(path.rglob("r*.json")) if path.is_dir() else [path]


@contextmanager
def _folder(to: Path | None) -> Iterator[Path]:
    """Yield the folder of the reruns: the one that is named, where they can resume, or one that goes away."""
    if to is not None:
        yield to.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="benchmark-rerun-") as folder:
        yield Path(folder)
