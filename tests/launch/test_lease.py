"""Leases: one process works on a run at a time, and a dead process does not hold it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from small import environment

from benchmark.launch.lease import HEARTBEAT_SECONDS, STALE_SECONDS, Held, Holder, holder_of, lease

HOLD = """
import sys, time
from pathlib import Path
from benchmark.launch.lease import lease
with lease(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def holding(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start another process that holds the lease."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_lease_is_held_and_given_back(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lease.json"
    assert holder_of(path) is None
    with lease(path):
        holder = holder_of(path)
        assert holder is not None
        assert holder.pid == os.getpid()
        with pytest.raises(Held), lease(path):
            pass
        assert holder_of(path) == holder  # the one refused has taken nothing away
    assert holder_of(path) is None
    assert not path.exists()


def test_a_lease_is_given_back_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with pytest.raises(ZeroDivisionError), lease(path):
        raise ZeroDivisionError
    assert holder_of(path) is None


def test_another_process_is_kept_out_until_the_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with holding(path) as process:
        with pytest.raises(Held), lease(path):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert path.exists()  # nobody gave it back
        with lease(path):
            pass


def test_a_killed_holder_that_nobody_waited_for_is_dead(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    with holding(path) as process:
        os.kill(process.pid, signal.SIGKILL)
        stat = Path(f"/proc/{process.pid}/stat")
        while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        assert holder_of(path) is None


def test_a_later_process_with_the_same_number_is_not_the_holder(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    me = Holder.this_process()
    path.write_text(json.dumps({"host": me.host, "pid": me.pid, "started": "1", "token": "another"}))
    assert holder_of(path) is None


@pytest.mark.parametrize(("silent_for", "alive"), [(0.0, True), (STALE_SECONDS / 2, True), (STALE_SECONDS + 1, False)])
def test_a_holder_on_another_machine_is_believed_while_it_beats(silent_for: float, alive: bool, tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": "1", "token": "t"}))
    then = time.time() - silent_for
    os.utime(path, (then, then))
    assert (holder_of(path) is not None) is alive


def test_a_holder_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.launch.lease.HEARTBEAT_SECONDS", 0.02)
    path = tmp_path / "lease.json"
    with lease(path):
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "x"}'])
def test_a_lease_cut_off_is_believed_only_while_it_is_young(content: str, tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    path.write_text(content)
    assert holder_of(path) is not None
    then = time.time() - HEARTBEAT_SECONDS - 1
    os.utime(path, (then, then))
    with lease(path):
        holder = holder_of(path)
        assert holder is not None
        assert holder.pid == os.getpid()


def test_of_many_who_ask_at_once_one_gets_it(tmp_path: Path) -> None:
    path = tmp_path / "lease.json"
    start = threading.Barrier(8)
    held, refused = [], []

    def ask(keep: ExitStack) -> None:
        start.wait()
        try:
            keep.enter_context(lease(path))
            held.append(1)
        except Held:
            refused.append(1)

    for _ in range(10):
        held.clear(), refused.clear()
        with ExitStack() as keep:
            threads = [threading.Thread(target=ask, args=(keep,)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert (len(held), len(refused)) == (1, 7)
