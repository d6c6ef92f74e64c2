"""A request to stop: a signal handler sets a flag, and whoever works looks at it between two steps."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Flag(threading.Event):
    """An event that handlers may set. Without the lock: a second signal would wait in it for the first, for ever."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = False
        self.number: int | None = None  # of the signal that asked

    def is_set(self) -> bool:
        """Whether somebody asked."""
        return self._asked

    def set(self) -> None:
        """Ask."""
        self._asked = True

    def clear(self) -> None:
        """Nobody asked."""
        self._asked = False

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep for at most `timeout` seconds; whether somebody asked."""
        deadline = time.monotonic() + (timeout or 0.0)
        while not self._asked and time.monotonic() < deadline:
            time.sleep(0.1)
        return self._asked


@contextmanager
def noting(flag: Flag, *numbers: signal.Signals) -> Iterator[None]:
    """Signals only set the flag for as long as the block runs."""

    def ask(number: int, frame: FrameType | None) -> None:
        flag.number = flag.number or number
        flag.set()

    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
