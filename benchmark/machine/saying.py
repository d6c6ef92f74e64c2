"""Lines on progress: what takes them, and how often they are printed where nothing can be drawn over."""

from __future__ import annotations

import time
from collections.abc import Callable

Say = Callable[[str], None]

SECONDS_BETWEEN = 15.0


def seldom(say: Say) -> Say:
    """Return a `say` that passes on one line every SECONDS_BETWEEN at most, and drops the others."""
    last = time.monotonic()

    def passed_on(line: str) -> None:
        nonlocal last
        if time.monotonic() - last > SECONDS_BETWEEN:
            last = time.monotonic()
            say(line)

    return passed_on
