"""Leases: one process works on a run at a time, and a dead process does not hold it forever."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmark.machine.files import storage, write_text

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 120.0  # how long a silent holder on another machine is believed alive


class Held(Exception):
    """The error raised if another process holds the lease."""


@dataclass(frozen=True)
class Holder:
    """The holder of a lease. The start time distinguishes a process from a later one with the same number."""

    host: str
    pid: int
    started: str
    token: str

    @classmethod
    def this_process(cls) -> Holder:
        """Return this process as a holder, with a new token at each call."""
        return cls.process(os.getpid())

    @classmethod
    def process(cls, pid: int) -> Holder:
        """Return a process of this machine as a holder."""
        return cls(socket.gethostname(), pid, _start_time(pid), uuid.uuid4().hex)

    def is_gone(self, silent_for: float) -> bool:
        """Return True if the holder is surely dead (same machine) or has been silent for too long (another one)."""
        if self.host == socket.gethostname():
            return _start_time(self.pid) != self.started
        return silent_for > STALE_SECONDS


def _start_time(pid: int) -> str:
    try:
        # Field 22, counted after the name in brackets, which may itself hold spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]  # a zombie is dead, only not yet waited for
    except OSError:
        return "" if not _alive(pid) else "unknown"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def holder_of(path: Path) -> Holder | None:
    """Return the current holder of a lease, or None if nobody holds it or the holder is gone."""
    try:
        holder = Holder(**json.loads(path.read_text()))
        silent_for = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        # The file is being written right now, or was cut off by a full disk. Count it as held only while it is new.
        with contextlib.suppress(OSError):
            return None if time.time() - path.stat().st_mtime > HEARTBEAT_SECONDS else Holder("?", 0, "", "")
        return None
    return None if holder.is_gone(silent_for) else holder


@contextlib.contextmanager
def lease(path: Path) -> Iterator[None]:
    """Hold a lease for as long as the block runs.

    Raises:
        Held: a living process holds it.
    """
    me = Holder.this_process()
    _take(path, me)
    stop = threading.Event()
    beat = threading.Thread(target=_keep_alive, args=(path, stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        with contextlib.suppress(OSError, ValueError):
            if json.loads(path.read_text())["token"] == me.token:
                path.unlink()


def _take(path: Path, me: Holder) -> None:
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _guard(path):
            if holder_of(path) is not None:
                raise Held(path)
            write_text(path, json.dumps(asdict(me)))


@contextlib.contextmanager
def _guard(path: Path) -> Iterator[None]:
    """Lock the lease's guard file while the lease is checked and taken.

    The lock only makes check and write one action. It ends with the block, the lease does not.
    """
    with path.with_name(f"{path.name}.guard").open("w") as file:
        with contextlib.suppress(OSError):  # the file system has no locks: two processes might both take the lease
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _keep_alive(path: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(path)
