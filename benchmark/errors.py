"""Errors that a user can act on. Each has an exit code and a fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

CHECK_FAILED = 5  # the exit code of a command that ran to its end, but one of its checks failed


class BenchmarkError(Exception):
    """An error that a user can fix. It is printed without a traceback, and `fix` is printed on the next line."""

    exit_code = 1

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}\n  fix: {self.fix}" if self.fix else self.message


class UsageError(BenchmarkError):
    """A flag, a name, a manifest or an option is wrong."""

    exit_code = 2


class MissingInput(BenchmarkError):
    """Data or weights are missing, or their content is not the expected one."""

    exit_code = 3


class StorageError(BenchmarkError):
    """A disk is full, a folder cannot be written, or a file was cut off."""

    exit_code = 4


class CannotServe(BenchmarkError):
    """A method cannot work on a pair of networks. It is reported as a skipped row, never as a failure."""


class Diverged(BenchmarkError):
    """A loss is no longer a finite number. The run is recorded as diverged and never retried."""


def nearest(wrong: str, valid: Iterable[str]) -> str:
    """Return a sentence with the closest valid name and up to 40 of the valid names."""
    names = sorted(set(valid))
    close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    shown = ", ".join(names[:40]) + (", ..." if len(names) > 40 else "")
    return f"{hint}valid: {shown}" if names else f"{hint}nothing is registered"
