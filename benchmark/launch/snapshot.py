"""The code of a submission, copied once. Later edits do not affect its jobs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmark.machine.files import storage
from benchmark.machine.plugins import EXTRA, ROOT, own_files
from benchmark.machine.provenance import FROZEN, SOURCES, revision
from benchmark.machine.shipped import INSTALLED, RESULTS


@dataclass(frozen=True)
class Snapshot:
    """A folder with the project's code, and a user's own methods and models beside it."""

    folder: Path

    @property
    def source(self) -> Path:
        """Return the folder with the project's code, which comes first in the jobs' PYTHONPATH."""
        return self.folder / "source"

    @property
    def extra(self) -> Path:
        """Return the folder with the files of every folder that $BENCHMARK_EXTRA names."""
        return self.folder / "extra"

    def environment(self) -> dict[str, str]:
        """Return the environment variables that make a process run this code and no other, in any folder."""
        path = os.pathsep.join(filter(None, (str(self.source), os.environ.get("PYTHONPATH", ""))))
        found = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
        return found | ({EXTRA: str(self.extra)} if self.extra.is_dir() else {})


def take(folder: Path) -> Snapshot:
    """Copy all code that can change a result, committed or not, and the weights that come with it, into `folder`.

    Equal code is copied only once.
    """
    extra = list(own_files(os.environ.get(EXTRA, "")))
    frozen = json.dumps(revision())
    digest = hashlib.sha256(frozen.encode())
    for path in (*_sources(), *extra):
        name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    snapshot = Snapshot(folder / digest.hexdigest()[:16])
    if not snapshot.folder.is_dir():
        with storage(snapshot.folder):
            partial = Snapshot(folder / f".{uuid.uuid4().hex[:8]}.partial")
            for path in _sources():
                _copy(path, partial.source / path.relative_to(ROOT))
            for path in extra:
                _copy(path, partial.extra / path.name)
            (partial.source / FROZEN.name).write_text(frozen)
            _put_in_place(partial.folder, snapshot.folder)
    return snapshot


def _sources() -> Iterator[Path]:
    for name in SOURCES:
        found = ROOT / name
        paths = [found] if found.is_file() else sorted(found.rglob("*"))
        yield from (path for path in paths if path.is_file() and "__pycache__" not in path.parts)
    if not INSTALLED:  # an installation has these weights inside the package, which is copied already
        yield from sorted(RESULTS.rglob("r*.pt"))  # weights of teachers that suites name


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def _put_in_place(partial: Path, target: Path) -> None:
    try:
        partial.rename(target)
    except OSError:
        shutil.rmtree(partial)
        if not target.is_dir():  # if it is there, another process has just made it, with the same content
            raise
