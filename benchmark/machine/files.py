"""Writing that a power cut, a full disk or a second process cannot leave half done."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from benchmark.errors import StorageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_FIXES = {
    errno.ENOSPC: "free some space and run the same command again: it resumes from the last checkpoint",
    errno.EDQUOT: "the disk quota is used up: free some space and run the same command again",
    errno.EACCES: "make the folder writable, or choose another with --results-dir and --runs-dir",
    errno.EPERM: "make the folder writable, or choose another with --results-dir and --runs-dir",
    errno.EROFS: "the file system is read-only: choose another folder with --results-dir and --runs-dir",
}


@contextlib.contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn an OSError raised in the block into a StorageError that names the path and the fix."""
    try:
        yield
    except OSError as error:
        fix = _FIXES.get(error.errno or 0, f"make {path} writable, then run the same command again")
        raise StorageError(f"cannot write {path}: {error.strerror or error}", fix) from error


class _Sink(io.BufferedWriter):
    """A file that remembers the OSError of a failed write.

    torch.save hides it: it reports a full disk as a RuntimeError about the format of its file.
    """

    refusal: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.refusal = error
            raise


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a temporary file in the same folder, flush it to the disk, and rename it to `path`.

    A reader sees either the whole old file or the whole new one.

    Raises:
        StorageError: the disk is full or the folder cannot be written; the old file is unchanged.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    with storage(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _Sink(io.FileIO(partial, "wb")) as file:
                try:
                    write(file)
                except RuntimeError as error:
                    raise file.refusal or error from error
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            _sync_folder(path.parent)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda file: file.write(text.encode()))


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system can sync a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sweep_partials(folder: Path, stem: str = "") -> None:
    """Remove the partial files that a killed writer of `stem.*` left.

    Call it only for files that no other process writes: its partial files would be removed too.
    """
    for partial in folder.glob(f".{stem}.*.partial" if stem else ".*.partial"):
        with contextlib.suppress(OSError):
            partial.unlink()
