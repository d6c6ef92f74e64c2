"""Atomic writing: a full disk, a folder without write access or a kill leaves no half-written file."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from benchmark.errors import StorageError
from benchmark.machine.files import storage, sweep_partials, write_atomically, write_text
from benchmark.plan.experiment import Data, Experiment, Run, plain
from benchmark.train import checkpoint

RUN = Run(Experiment("classification", Data("generated"), "resnet8", plain(), None), 0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_text_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    write_text(path, "one")
    write_text(path, "two")
    assert path.read_text() == "two"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("what", ["fsync", "replace"])
def test_a_full_disk_is_a_clear_error_and_the_old_file_stays(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*(("os.fsync", refuse) if what == "fsync" else (Path, "replace", refuse)))
    with pytest.raises(StorageError, match="No space left on device") as caught:
        write_text(path, "new")
    assert str(path) in caught.value.message
    assert "free some space" in caught.value.fix
    assert caught.value.exit_code == 4
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("numbers", [200_000, 1_000_000, 3_000_000])
def test_a_checkpoint_that_does_not_fit_leaves_the_earlier_one(numbers: int, small_disk: Path) -> None:
    # torch.save itself tells of a full disk by a RuntimeError about its own file format.
    path = small_disk / "checkpoint.pt"
    checkpoint.save(path, {"weights": torch.ones(100_000)}, RUN, 1)
    with pytest.raises(StorageError, match="No space left on device"):
        checkpoint.save(path, {"weights": torch.zeros(numbers)}, RUN, 2)
    assert [p.name for p in small_disk.iterdir()] == ["checkpoint.pt"]
    kept = checkpoint.load(path, RUN)
    assert kept is not None
    assert torch.equal(kept.state["weights"], torch.ones(100_000))


def test_many_small_tensors_that_do_not_fit_are_told_alike(small_disk: Path) -> None:
    with pytest.raises(StorageError, match="No space left on device"):
        checkpoint.save(small_disk / "checkpoint.pt", {str(n): torch.zeros(1_000) for n in range(400)}, RUN, 1)


def test_a_read_only_disk_is_a_clear_error(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageError, match="Read-only file system") as caught:
        write_text(small_disk / "a.txt", "new")
    assert "--results-dir" in caught.value.fix


def test_a_file_where_a_folder_should_be_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("no folder")
    with pytest.raises(StorageError, match="cannot write"):
        write_text(tmp_path / "results" / "a.txt", "new")


def test_storage_names_the_path_and_keeps_the_cause(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught, storage(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert str(tmp_path) in caught.value.message
    assert isinstance(caught.value.__cause__, PermissionError)


def test_what_a_killed_writer_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    for name in (".r0.json.ab12.partial", ".r0.csv.ab12.partial", ".r1.json.cd34.partial", "r0.json"):
        (tmp_path / name).touch()
    sweep_partials(tmp_path, "r0")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".r1.json.cd34.partial", "r0.json"]
    sweep_partials(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["r0.json"]
