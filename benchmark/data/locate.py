"""The data of a run: found and verified without importing torch.

CIFAR-100 is looked for in `--data-dir`, else in $BENCHMARK_DATA and `data/`; else it is downloaded, unless
$BENCHMARK_OFFLINE is set; else, if the caller allows it, the generated set is used instead and a note says so. Wrong
files are an error, never a reason to use other data.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import shlex
import socket
import tarfile
import tempfile
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmark.data.finder import ENVIRONMENT, folders, places
from benchmark.errors import MissingInput, StorageError, UsageError, nearest
from benchmark.paper.datasets import DATA_SETS

OFFLINE = "BENCHMARK_OFFLINE"  # set to anything: never ask the network

FOLDER = "cifar-100-python"
FILES = {  # md5 sums as torchvision.datasets.CIFAR100 has them
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}
ARCHIVE = "cifar-100-python.tar.gz"
ARCHIVE_MD5 = "eb9058c3a382ffc7106e4002c42a8d85"
URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
TIMEOUT = 15.0  # seconds without an answer from the network


@dataclass(frozen=True)
class OfficialFiles:
    """The official CIFAR-100 files, verified."""

    folder: Path  # holds train, test and meta
    md5s: Mapping[str, str]  # by file name


@dataclass(frozen=True)
class DataSource:
    """The source of a run's images."""

    kind: Literal["cifar100", "generated", "folder"]
    folder: Path | None = None  # None: generated, or looked for
    md5s: Mapping[str, str] = field(default_factory=dict)
    note: str = ""  # one line that every output must carry; empty where the data are what was asked for
    data_dir: Path | None = None  # where folders of images are looked for, as the user said


class DownloadFailed(MissingInput):
    """The error of a download that gave no usable archive."""


def find_cifar100(data_dir: Path | None) -> OfficialFiles | None:
    """Find and verify the CIFAR-100 files. Return None if no known folder has any.

    A `data_dir` without them is an error, as are wrong files.
    """
    for place in places(data_dir):
        found = _in(place.expanduser())
        if found is not None:
            return found
    if data_dir is not None:
        raise MissingInput(f"{data_dir} holds no CIFAR-100: neither {FOLDER}/ nor {ARCHIVE}", _fix(_folder(data_dir)))
    return None


def present(data_dir: Path | None) -> bool:
    """Check that a known folder contains the CIFAR-100 files. Only names are compared, so this is fast."""
    return any((folder / "train").is_file() for folder in folders(data_dir, FOLDER))


def resolve(name: str, data_dir: Path | None, allow_download: bool, allow_generated: bool) -> DataSource:
    """Return the source for a data set's name, `cifar100` or `generated`, or raise.

    Several processes that may all download should not call this at once: let one of them resolve first.
    """
    if name == "generated":
        return DataSource("generated", note=DATA_SETS["cifar100"].stand_in_note)
    if name != "cifar100":
        raise UsageError(f"unknown data set {name!r}", nearest(name, ("cifar100", "generated")))
    found = find_cifar100(data_dir)
    if found is not None:
        return DataSource("cifar100", found.folder, found.md5s)
    looked_in = places(None)
    unset = "" if os.environ.get(ENVIRONMENT) else f" (${ENVIRONMENT} is not set)"
    missing = f"CIFAR-100 is not in {' or '.join(map(str, looked_in))}{unset}"
    if allow_download:
        try:
            found = download(looked_in[0].expanduser())
            return DataSource("cifar100", found.folder, found.md5s)
        except DownloadFailed as failure:
            missing += f", and {failure.message}"
    if allow_generated:
        return DataSource(
            "generated", note=f"{missing}: generated images stand in, figures say nothing about CIFAR-100"
        )
    raise MissingInput(missing, f"{_fix(_folder(looked_in[0]))}\n  or name the folder that has it with --data-dir")


def download(root: Path) -> OfficialFiles:
    """Fetch the archive into `root` through torchvision, with its progress bar, and unpack it there."""
    if os.environ.get(OFFLINE):
        raise DownloadFailed(f"${OFFLINE} is set: nothing is downloaded", _fix(root / FOLDER))
    with _scratch(root) as scratch:
        try:
            _probe()
            from torchvision.datasets.utils import download_url

            with _socket_timeout(TIMEOUT):
                download_url(URL, scratch, ARCHIVE, ARCHIVE_MD5)
        # torchvision raises RuntimeError for an archive with another md5
        except (OSError, http.client.HTTPException, RuntimeError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageError(f"{root}: {error.strerror}", f"free 400 MB, or set ${ENVIRONMENT}") from error
            cause = getattr(error, "reason", error)  # urllib wraps what the system said
            raise DownloadFailed(f"downloading {URL} failed: {cause}", _fix(root / FOLDER)) from error
        folder = _unpack(scratch / ARCHIVE, root)
    return OfficialFiles(folder, _verify(folder))


def md5_of(content: bytes) -> str:
    """Return the md5 sum in hexadecimal, as the official list writes it."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def mismatch(path: Path, found: str, expected: str) -> MissingInput:
    """Return the error for a file that exists but is not the official one."""
    return MissingInput(
        f"{path} is not the official file: md5 {found}, expected {expected}; it is corrupt or was cut off",
        _fix(path.parent),
    )


def _folder(place: Path) -> Path:
    """Return the folder of the CIFAR-100 files: `place` itself, under any name, or its usual subfolder."""
    is_folder = place.name == FOLDER or all((place / name).is_file() for name in FILES)
    return place if is_folder else place / FOLDER


def _in(place: Path) -> OfficialFiles | None:
    folder = _folder(place)
    if folder.is_dir():
        return OfficialFiles(folder, _verify(folder))
    archive = place / ARCHIVE
    if not archive.is_file():
        return None
    if (md5 := md5_of(_read(archive))) != ARCHIVE_MD5:
        raise MissingInput(
            f"{archive} is not the official archive: md5 {md5}, expected {ARCHIVE_MD5}; it is corrupt or was cut off",
            f"curl -fL -o {shlex.quote(str(archive))} {URL}",
        )
    folder = _unpack(archive, place)
    return OfficialFiles(folder, _verify(folder))


def _verify(folder: Path) -> dict[str, str]:
    """Return every file's md5 sum, or raise for the first file that is missing or wrong."""
    for name, expected in FILES.items():
        path = folder / name
        if not path.is_file():
            raise MissingInput(
                f"{path} is missing (expected md5 {expected}): {folder} holds only a part of CIFAR-100", _fix(folder)
            )
        if (found := md5_of(_read(path))) != expected:
            raise mismatch(path, found, expected)
    return dict(FILES)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MissingInput(f"{path} cannot be read: {error.strerror}", f"ls -l {shlex.quote(str(path))}") from error


def _fix(folder: Path) -> str:
    """Return the command that puts the official files into a folder, whatever the folder holds now."""
    quoted = shlex.quote(str(folder))
    return f"mkdir -p {quoted} && curl -fL {URL} | tar -xz --strip-components=1 -C {quoted}"


def _unpack(archive: Path, root: Path) -> Path:
    """Unpack beside the target and rename, so that an interruption leaves no half-filled folder."""
    target = root / FOLDER
    with _scratch(root) as scratch:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(scratch, filter="data")
        except OSError as error:
            raise StorageError(
                f"{archive} cannot be unpacked in {root}: {error.strerror}", "free 200 MB there"
            ) from error
        try:
            (scratch / FOLDER).rename(target)
        except OSError:
            if not target.is_dir():  # where it is, another process was faster
                raise
    return target


@contextmanager
def _scratch(root: Path) -> Iterator[Path]:
    """Open a temporary folder on the disk of `root`, removed on exit."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=root, prefix=f".{FOLDER}-")
    except OSError as error:
        raise StorageError(
            f"{root} cannot be written: {error.strerror}", f"set ${ENVIRONMENT} to a folder that can"
        ) from error
    with scratch as path:
        yield Path(path)


def _probe() -> None:
    """Ask for the archive's headers first: name resolution can hang, and no socket time-out covers it."""
    failure: list[Exception] = [TimeoutError(f"no answer within {TIMEOUT:g} s")]

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(URL, method="HEAD"), timeout=TIMEOUT):
                failure.clear()
        except Exception as error:
            failure[:] = [error]

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(TIMEOUT + 1)
    if failure:
        raise failure[0]


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
