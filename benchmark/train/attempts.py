"""The starts of a run, one line each in its working folder, and what its record says of them."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import torch

from benchmark.machine import provenance
from benchmark.machine.files import storage, write_text
from benchmark.records.facts import MOST_ATTEMPTS, Attempt


def begin(path: Path, threads: int | None) -> None:
    """Add a line for an attempt that starts now in this process."""
    code = provenance.revision()
    packages = json.dumps(dict(provenance.packages()), sort_keys=True)
    line = {
        "pid": os.getpid(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": code["commit"],
        "source_sha256": code["source_sha256"],
        "cpu": provenance.hardware()["cpu"],
        "threads": threads or torch.get_num_threads(),
        "packages_sha256": hashlib.sha256(packages.encode()).hexdigest()[:16],
    }
    with storage(path), path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def resumed(path: Path, step: int, seconds: float) -> None:
    """Say in the last line what earlier attempts had done: steps, and seconds up to the checkpoint."""
    if lines := _lines(path):
        lines[-1] |= {"step": step, "seconds_before": seconds}
        write_text(path, "".join(json.dumps(line) + "\n" for line in lines))


def recorded(path: Path, seconds: float) -> list[Attempt]:
    """Return the attempts of a run that took so many seconds in all: the first and the last ones if there are many."""
    if not (lines := _lines(path)):
        return []
    ends = [_seconds(line.get("seconds_before")) for line in lines[1:]] + [seconds]
    found = [
        Attempt.model_validate(
            {key: value for key, value in line.items() if key not in ("pid", "seconds_before")}
            | {"seconds": round(max(0.0, end - _seconds(line.get("seconds_before"))), 2)}
        )
        for line, end in zip(lines, ends, strict=True)
    ]
    half = MOST_ATTEMPTS // 2
    return found if len(found) <= MOST_ATTEMPTS else [*found[:half], *found[-half:]]


def count(path: Path) -> int:
    """Return the number of attempts."""
    return len(_lines(path))


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _lines(path: Path) -> list[dict[str, object]]:
    """Return the lines. Those of earlier versions, `PID TIME`, say no more than that."""
    if not path.is_file():
        return []
    found: list[dict[str, object]] = []
    for text in path.read_text().splitlines():
        pid, _, started = text.partition(" ")
        found.append(json.loads(text) if text.startswith("{") else {"pid": pid, "started": started})
    return found
