"""Settings of a training process for waiting threads and for freed memory. They must be made before torch is loaded.

Variables that the user has set are kept. The settings change no number, but a step can take much longer without them
(docs/performance.md).
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping

# How many times GNU's OpenMP threads check for work before they sleep. With its default, about a millisecond, a small
# network trains up to ten times slower as soon as another process wants one of the cores. Sleeping at once makes a step
# a third slower on an idle machine.
SPINS = 1000

# The GNU C library may return freed memory to the system, which must clear it page by page when the next step asks for
# memory again. These values keep it: M_TRIM_THRESHOLD, and the largest allowed M_MMAP_THRESHOLD, in bytes. By default
# both follow the largest block freed so far.
TRIM, MMAP = 1 << 30, 32 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h

_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_KEEPING = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


def settle() -> None:
    """Make both settings for this process and for the processes that it starts."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
    if sys.platform != "linux" or any(name in os.environ for name in (*_KEEPING, "GLIBC_TUNABLES")):
        return
    os.environ |= dict(zip(_KEEPING, (str(TRIM), str(MMAP)), strict=True))
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # GNU's; other C libraries have none
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, TRIM)
        mallopt(_M_MMAP_THRESHOLD, MMAP)


def inherited() -> Mapping[str, str]:
    """Return the environment variables of these settings, for a process on another machine."""
    return {name: os.environ[name] for name in (*_WAITING, *_KEEPING) if name in os.environ}
