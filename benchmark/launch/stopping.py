"""A request to stop: a signal handler sets a flag, which the training reads between two steps."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Flag(threading.Event):
    """An event that signal handlers may set.

    It has no lock. With threading.Event's own, a signal that interrupts another's handler would wait forever.
    """

    def __init__(self) -> None:
        super().__init__()
        self._asked = False
        self.number: int | None = None  # the first signal that requested a stop

    def is_set(self) -> bool:
        """Return True if a stop is requested."""
        return self._asked

    def set(self) -> None:
        """Request a stop."""
        self._asked = True

    def clear(self) -> None:
        """Withdraw the request."""
        self._asked = False

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until a stop is requested, for at most `timeout` seconds. Return True if a stop is requested."""
        deadline = time.monotonic() + (timeout or 0.0)
        while not self._asked and time.monotonic() < deadline:
            time.sleep(0.1)
        return self._asked


@contextmanager
def noting(flag: Flag, *numbers: signal.Signals) -> Iterator[None]:
    """Set the flag when one of these signals arrives, and do nothing else, while the block runs."""

    def ask(number: int, frame: FrameType | None) -> None:
        flag.number = flag.number or number
        flag.set()

    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
