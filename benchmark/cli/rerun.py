"""`rerun`: make the run of a record again from the record alone, and say whether it comes out bit for bit."""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.cli import requests
from benchmark.errors import CHECK_FAILED, BenchmarkError, UsageError
from benchmark.records.evidence import RECORD_FILE
from benchmark.records.store import Record, Unreadable, read_record

if TYPE_CHECKING:
    from benchmark.launch.rerun import Rerun
    from benchmark.train.settings import Settings


def main(arguments: requests.Rerun) -> int:
    """Make the runs again. Return 0 if all that can be made come out equal, or the code of a failed check.

    Raises:
        BenchmarkError: the one record that is named cannot be rerun. Of several, the others are.
    """
    records = _records(arguments)
    found: list[Rerun] = []
    refused: list[Refused] = []
    stopped = False
    began = time.monotonic()
    with _folder(arguments.to) as folder:
        for path, record in records:
            spent = (time.monotonic() - began) / 3600
            try:
                readable = _readable(record, path)
                if arguments.hours is not None and found and spent + readable.seconds / 3600 > arguments.hours:
                    print(f"{readable.label}: left out, the {arguments.hours:g} hours are spent", file=sys.stderr)
                    continue
                found.append(_again(readable, path, folder, arguments))
            except BenchmarkError as error:
                if len(records) == 1:
                    raise
                refused.append(Refused(str(path), error.message.removeprefix(f"{path}: ")))
            except KeyboardInterrupt:
                stopped = True
                break
    results: list[Rerun | Refused] = [*found, *refused]
    if arguments.json:
        print(json.dumps([asdict(one) for one in results], indent=1, ensure_ascii=False))
    elif results:
        print("\n".join(one.text() for one in results))
    equal = sum(one.equal for one in found)
    if len(records) > 1:
        more = f"; {len(refused)} could not be rerun" if refused else ""
        print(f"{equal} of {len(found)} reruns are equal bit for bit{more}", file=sys.stderr)
    if stopped:
        raise KeyboardInterrupt
    return 0 if found and equal == len(found) else CHECK_FAILED


@dataclass(frozen=True)
class Refused:
    """A record that cannot be rerun."""

    path: str
    reason: str

    def text(self) -> str:
        """Format for a terminal."""
        return f"{self.path}: could not be rerun: {self.reason}"


def _again(record: Record, path: Path, folder: Path, arguments: requests.Rerun) -> Rerun:
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


def _readable(record: Record | Unreadable | None, path: Path) -> Record:
    if isinstance(record, Record):
        return record
    why = "there is no such file" if record is None else record.reason
    raise UsageError(f"{path}: {why}", "name a record: results/PROFILE/.../r0.json")


def _records(arguments: requests.Rerun) -> list[tuple[Path, Record | Unreadable | None]]:
    """Return what is read of the records that are named, or of a sample of those below the folders that are named.

    Raises:
        UsageError: no record is named that has an outcome, or too many are.
    """
    read = [(path, read_record(path)) for name in arguments.records for path in _paths(Path(name))]
    found = [(path, record) for path, record in read if not isinstance(record, Record) or record.status != "skipped"]
    if not found:
        raise UsageError("no record of a run is named", "name a record, or a folder of records with --sample N")
    if arguments.sample is not None:
        found = random.Random(arguments.seed).sample(found, min(arguments.sample, len(found)))
    elif len(found) > len(arguments.records):
        raise UsageError(f"{len(found)} records lie below the folders that are named", "--sample N takes N of them")
    return found


def _paths(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(found for found in path.rglob("r*.json") if RECORD_FILE.match(found.name))


@contextmanager
def _folder(to: Path | None) -> Iterator[Path]:
    """Yield the folder of the reruns: the one that is named, where they can resume, or one that goes away."""
    if to is not None:
        yield to.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="benchmark-rerun-") as folder:
        yield Path(folder)
