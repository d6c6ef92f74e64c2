"""Errors that a user can act on. Each has an exit code and a fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

CHECK_FAILED = 5  # the exit code of a command that ran, and whose checks found what they look for


class BenchmarkError(Exception):
    """An error that a user can fix. It is printed without a traceback, with `fix` on a line of its own."""

    exit_code = 1

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}\n  fix: {self.fix}" if self.fix else self.message


class UsageError(BenchmarkError):
    """A wrong flag, name, manifest or option."""

    exit_code = 2


class MissingInput(BenchmarkError):
    """Data or weights that are not there, or not what they should be."""

    exit_code = 3


class StorageError(BenchmarkError):
    """A disk that is full, a folder that cannot be written, a file that was cut off."""

    exit_code = 4


class CannotServe(BenchmarkError):
    """A method that cannot work on a pair of networks. Reported as a skipped row, never as a failure."""


class Diverged(BenchmarkError):
    """A loss that is no longer a finite number. Recorded, never retried."""


def nearest(wrong: str, valid: Iterable[str]) -> str:
    """Return a sentence that names the closest valid name, and all valid names if they are few."""
    names = sorted(set(valid))
    close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    shown = ", ".join(names[:40]) + (", ..." if len(names) > 40 else "")
    return f"{hint}valid: {shown}" if names else f"{hint}nothing is registered"
