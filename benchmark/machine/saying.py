"""Lines that report progress: the type of function that prints them, and one that prints them less often."""

from __future__ import annotations

import time
from collections.abc import Callable

Say = Callable[[str], None]

SECONDS_BETWEEN = 15.0


def seldom(say: Say) -> Say:
    """Return a `say` that prints at most one line every SECONDS_BETWEEN, and drops the others."""
    last = time.monotonic()

    def passed_on(line: str) -> None:
        nonlocal last
        if time.monotonic() - last > SECONDS_BETWEEN:
            last = time.monotonic()
            say(line)

    return passed_on
