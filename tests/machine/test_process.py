"""The settings that a process makes before it loads torch, checked in separate processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

# Memory as a training step uses it: many maps, freed together, asked for again. Page faults of the later rounds.
STEPS = """
import json, resource
from benchmark.machine.process import inherited, settle
settle()
import torch
def step():
    maps = [torch.ones(1 << 20) for _ in range(24)]
step(); step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step(); step()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(json.dumps({"faults": faults, "inherited": dict(inherited())}))
"""
NO_STEPS = """
import json
from benchmark.machine.process import inherited, settle
settle()
print(json.dumps({"inherited": dict(inherited())}))
"""


def found(code: str = STEPS, **environment: str) -> dict:
    named = ("OMP_", "GOMP_", "MALLOC_", "GLIBC_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(named)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the GNU C library's settings")
def test_steps_find_the_memory_of_the_last_step_again() -> None:
    pages = 24 * 4 * 1024 * 1024 // os.sysconf("SC_PAGE_SIZE")
    assert found()["faults"] < pages // 10
    # What it prevents: a library that hands each map back.
    assert found(MALLOC_MMAP_THRESHOLD_=str(1 << 20))["faults"] > pages


def test_processes_elsewhere_are_told() -> None:
    assert found(NO_STEPS)["inherited"] == {
        "GOMP_SPINCOUNT": "1000",
        "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
        "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    }


def test_the_environment_wins() -> None:
    assert found(NO_STEPS, OMP_WAIT_POLICY="PASSIVE", MALLOC_TRIM_THRESHOLD_="4096")["inherited"] == {
        "OMP_WAIT_POLICY": "PASSIVE",
        "MALLOC_TRIM_THRESHOLD_": "4096",
    }
    told = found(GLIBC_TUNABLES="glibc.malloc.trim_threshold=4096")
    assert told["inherited"] == {"GOMP_SPINCOUNT": "1000"}
    assert told["faults"] > 0
