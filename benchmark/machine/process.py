"""Settings for waiting threads and freed memory of a training process, made before torch is loaded.

The environment's own settings have priority. Neither changes the arithmetic; both can cost a step much of its time
(docs/performance.md).
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping

# GNU's OpenMP threads spin this often before they sleep. Its default, about a millisecond, trains a small network up to
# ten times slower as soon as another process wants one of the cores; sleeping at once costs a step a third of its speed
# on an idle machine.
SPINS = 1000

# The GNU C library may hand freed memory back to the system, which clears it page by page when a step asks again.
# M_TRIM_THRESHOLD, and M_MMAP_THRESHOLD at its largest allowed value; by default both follow the largest block freed.
TRIM, MMAP = 1 << 30, 32 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h

_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_KEEPING = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


def settle() -> None:
    """Set both for this process and those that it starts."""
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
    """Return the variables of these settings, for a process elsewhere."""
    return {name: os.environ[name] for name in (*_WAITING, *_KEEPING) if name in os.environ}
