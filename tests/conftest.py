"""Fixtures of all tests: one thread for each test process, and the official CIFAR-100 if it is available offline."""

from __future__ import annotations

import fcntl
import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from benchmark.models.openmmlab import import_formatter

# Before anything imports torch, and for the processes that tests start: the networks of the tests are too small for
# more threads to help, and a fixed count keeps bit-identity tests meaningful.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import_formatter()  # before any module here imports MMEngine: test processes start together, on a new machine too

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = "BENCHMARK_SHARED_DATA"


def pytest_collection_finish() -> None:
    """Exclude imported modules from garbage collection: searching all of torch each time is slow."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def networks_are_built_once() -> Iterator[None]:
    """Build each detector once: drawing its weights takes seconds, longer than many a test."""
    from built import built_once

    with built_once():
        yield


@pytest.fixture(scope="session")
def generated_once() -> Callable[[], object]:
    """Make the generated images once for each test process: making them takes longer than a small run."""
    from benchmark.data import generated

    return cache(generated.generate)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generated_once: Callable[[], object]) -> Path:
    """Enter an empty working directory without CIFAR-100 and network access: smoke runs use generated images."""
    monkeypatch.setattr("benchmark.data.generated.generate", generated_once)
    folder = tmp_path / "workplace"
    (folder / "no-data").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("BENCHMARK_OFFLINE", "1")
    monkeypatch.setenv("BENCHMARK_DATA", str(folder / "no-data"))
    monkeypatch.delenv("BENCHMARK_EXTRA", raising=False)
    return folder


@pytest.fixture(scope="session")
def cifar100_dir() -> Path:
    """Return a folder with the official `cifar-100-python/`, outside the repository, made once for each machine."""
    shared = Path(os.environ.get(SHARED_DATA, ROOT.parent / "shared" / "data"))
    script = shared / "unpack_cifar100.py"
    if not script.is_file():
        pytest.skip(f"needs the official CIFAR-100: no {script.name} in {shared} (set ${SHARED_DATA})")
    cache = Path(tempfile.gettempdir()) / f"benchmark-cifar100-{os.getuid()}"
    cache.mkdir(exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(
            lock, fcntl.LOCK_EX
        )  # two test processes may start at once; the script keeps what is there and right
        done = subprocess.run([sys.executable, str(script), str(cache)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{script} failed: {done.stdout}{done.stderr}")
    absent = [name for name in ("train", "test", "meta") if not (cache / "cifar-100-python" / name).is_file()]
    if absent:
        pytest.skip(f"needs the official CIFAR-100: {script} could not rebuild {', '.join(absent)}")
    return cache
