"""Where a record comes from: revision, source, packages, hardware."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from benchmark.discovery import ROOT

# What can change a result. Edits elsewhere (docs, reports, results) do not make a revision dirty.
SOURCES = ("benchmark", "methods", "suites", "pyproject.toml")
PACKAGES = ("torch", "torchvision", "timm", "numpy")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@cache
def revision() -> dict[str, str | bool | None]:
    """Commit, whether result-changing files differ from it, and a hash of these files."""
    commit = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--", *SOURCES)
    return {"commit": commit, "dirty": None if changed is None else bool(changed), "source_sha256": source_hash()}


@cache
def source_hash() -> str:
    """Hash of every python file of benchmark/ and methods/."""
    digest = hashlib.sha256()
    for package in ("benchmark", "methods"):
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@cache
def packages() -> dict[str, str]:
    """Versions of what decides numbers."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


@cache
def hardware() -> dict[str, str | int]:
    """The processor as the system names it, and its cores."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(errors="replace").splitlines()
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        name = models[0] if models else name
    return {"cpu": name, "cores": os.cpu_count() or 1, "host_os": platform.system()}
