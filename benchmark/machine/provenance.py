"""The origin of a record: revision, source, packages, hardware."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

from benchmark.machine.plugins import EXTRA, ROOT, own_files
from benchmark.machine.rooms import trained_by

# Files that can change a result. Edits of other files (docs, reports, results) do not make a revision dirty.
SOURCES = ("benchmark", "methods", "suites", "pyproject.toml")
PACKAGES = ("torch", "torchvision", "timm", "numpy")
FROZEN = ROOT / "revision.json"  # only in a snapshot, which has no git history: the revision that it is a copy of


def git(*arguments: str) -> str | None:
    """Return what git prints about this program's folder, or None if git fails or is missing."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def revision() -> dict[str, str | bool | None]:
    """Return the commit, `dirty` (True if files that change results differ from it), and hashes of the sources."""
    return dict(_revision(os.environ.get(EXTRA, "")))


@cache
def _revision(extra: str) -> dict[str, str | bool | None]:
    if FROZEN.is_file():
        return {**json.loads(FROZEN.read_text()), "source_sha256": source_hash()}
    # If this package is installed inside another git repository, git would answer with that repository's commit.
    commit = git("rev-parse", "HEAD") if git("ls-files", "benchmark/errors.py") else None
    changed = git("status", "--porcelain", "--", *SOURCES)
    found = {
        "commit": commit,
        "dirty": None if commit is None or changed is None else bool(changed),
        "source_sha256": source_hash(),
    }
    return found | ({"extra_sha256": _hash_of(own_files(extra))} if extra else {})


@cache
def source_hash() -> str:
    """Return the hash of the Python files that a training uses. An edit of `report/` does not change it."""
    return _hash_of(path for place in trained_by() for path in python_files(ROOT / place))


def python_files(place: Path) -> list[Path]:
    """Return the python files of a folder, or the one file that is named."""
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


def _hash_of(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@cache
def packages() -> Mapping[str, str]:
    """Return the versions of Python and of the packages that decide numbers."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


@cache
def hardware() -> Mapping[str, str | int]:
    """Return the processor's name and its number of cores."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(errors="replace").splitlines()
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        name = models[0] if models else name
    return {"cpu": name, "cores": os.cpu_count() or 1, "host_os": platform.system()}
