"""Checkpoints: everything a run needs to resume, written atomically and sealed, the one before kept.

A seal names the format, the run and the step, and carries a SHA-256 over all of the content. A file that is damaged,
or belongs to another run, is set aside under another name and never used.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmark.errors import BenchmarkError, MissingInput, StorageError
from benchmark.machine.files import storage, write_atomically
from benchmark.plan.experiment import Run

FORMAT = 2  # raised when checkpoints change in a way that older programs cannot read
SEAL = "seal"

# Format 1 had no seal. A file is taken for one of these only if it has exactly the keys that were written then.
_FORMAT_1 = (
    {*("identity", "repetition", "epoch", "step", "step_kind", "distiller", "optimizer", "scaler", "generator")}
    | {*("meters", "average", "rows", "best", "best_epoch", "seconds", "training_seconds")},
    {"meta", "state_dict", "optimizer", "param_schedulers", "benchmark"},
)
_PLAIN = (bool, int, float, str, bytes, type(None), torch.dtype, torch.device)


@dataclass(frozen=True)
class UsableCheckpoint:
    """A usable checkpoint and its path."""

    path: Path
    state: dict[str, object]
    sha256: str  # of the content
    sealed: bool  # False for format 1, whose content nothing vouches for


class _Unusable(Exception):
    """An error: a file is no checkpoint of the run.

    `label` becomes part of the name of the file when it is set aside.
    """

    def __init__(self, label: str, why: str) -> None:
        super().__init__(why)
        self.label = label


def save(path: Path, state: Mapping[str, object], run: Run, step: int) -> None:
    """Seal and write a checkpoint, and keep the one before it, in case this one turns out to be damaged.

    Raises:
        StorageError: the disk is full or not writable; the earlier checkpoint is untouched.
    """
    seal = {"format": FORMAT, "identity": run.experiment.identity, "repetition": run.repetition, "step": step}
    content = {**state, SEAL: seal}
    content[SEAL] = seal | {"sha256": content_sha256(content)}
    fresh = path.with_name(f"fresh-{path.name}")
    write_atomically(fresh, lambda file: torch.save(content, file))
    if path.exists():
        path.replace(previous(path))
    fresh.replace(path)


def previous(path: Path) -> Path:
    """Return the path of the checkpoint before the last."""
    return path.with_name(f"previous-{path.name}")


def load(path: Path, run: Run, say: Callable[[str], None] = print) -> UsableCheckpoint | None:
    """Return a run's newest usable checkpoint, None where there is none. Others are named and set aside.

    Raises:
        StorageError: a checkpoint cannot be read just now, which says nothing about its content.
    """
    # A process killed between the two renames of `save` leaves the newest as `fresh-`.
    for candidate in (path.with_name(f"fresh-{path.name}"), path, previous(path)):
        if not candidate.exists():
            continue
        try:
            return _read(candidate, run)
        except _Unusable as problem:
            set_aside(candidate, problem.label, str(problem), say)
    return None


def load_same(path: Path, run: Run, sha256: str) -> UsableCheckpoint:
    """Return the checkpoint that the leading process of this run has chosen.

    Raises:
        MissingInput: this process sees no such file, or another one.
    """
    try:
        found = _read(path, run)
    except (_Unusable, StorageError):
        found = None
    if found is None or found.sha256 != sha256:
        raise MissingInput(
            f"the processes see different checkpoints in {path.parent}",
            "--runs-dir must name a folder that all machines of the job share",
        )
    return found


def set_aside(path: Path, label: str, why: str, say: Callable[[str], None]) -> None:
    """Rename a checkpoint that must not be used, and report it. The file is kept so that it can be inspected."""
    number = 1
    while (place := path.with_name(f"{path.name}.{label}-{number}")).exists():
        number += 1
    with storage(path):
        path.replace(place)
    say(f"{path} {why}: kept as {place.name}; the checkpoint before it is used, or the run starts again")


def refused(found: UsableCheckpoint, error: Exception, say: Callable[[str], None], leads: bool = True) -> None:
    """Set aside a checkpoint whose content does not fit its run.

    Raises:
        BenchmarkError: it is sealed, so it is whole, and another version of the program wrote it.
        OutOfMemoryError: the error itself, where it is one: it says nothing about the content.
    """
    if isinstance(error, torch.OutOfMemoryError):
        raise error
    why = (str(error).splitlines() or [type(error).__name__])[-1].strip()
    why = f"it lacks {why}" if isinstance(error, KeyError) else why
    if found.sealed:
        raise BenchmarkError(
            f"{found.path} was written by other code: {why}",
            f"go back to that code, or delete {found.path.name} there to resume from {previous(found.path).name}, "
            f"or {found.path.parent} to start this run again",
        ) from error
    if leads:
        set_aside(found.path, "damaged", f"does not fit this run ({why})", say)


def renewed(found: UsableCheckpoint) -> str:
    """Return the message on a checkpoint of format 1, which is rewritten in the present format."""
    return (
        f"{found.path} has the format of an earlier version, without a seal: rewritten; it does not name the "
        "teacher's weights, so the present ones are assumed"
    )


def check_teacher(run: Run, began_with: str | None, sha256: str | None, work: Path) -> None:
    """Raise if the run would resume with other teacher weights than it began with.

    Raises:
        BenchmarkError: the teacher's weights differ. Format 1 does not store what a run began with.
    """
    if began_with is not None and began_with != sha256:
        raise BenchmarkError(
            f"{run.label} began with a teacher of other weights (sha256 {began_with[:12]}, now {str(sha256)[:12]})",
            f"restore the teacher's weights, or delete {work} to start this run again",
        )


def remove(path: Path) -> None:
    """Delete a finished run's checkpoints."""
    for candidate in (path, previous(path), path.with_name(f"fresh-{path.name}")):
        candidate.unlink(missing_ok=True)


def _read(path: Path, run: Run) -> UsableCheckpoint:
    # Read first, then parsed: a disk that cannot be read says nothing about the content.
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(
            f"cannot read {path}: {error.strerror}", "run the same command again once it can be read: nothing is lost"
        ) from error
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch, zipfile and pickle raise of many kinds about a damaged file
        raise _Unusable("damaged", f"cannot be read ({type(error).__name__})") from error
    seal = state.get(SEAL) if isinstance(state, dict) else None
    if not isinstance(state, dict) or (seal is None and set(state) not in _FORMAT_1):
        raise _Unusable("damaged", "is no checkpoint")
    if seal is None and not _whole_archive(content):
        raise _Unusable("damaged", "is damaged (a part of it does not have the CRC that it carries)")
    owner = state.get("benchmark", state) if seal is None else seal
    sha = _checked_sha256(state, owner, sealed=seal is not None)
    belongs = owner.get("identity"), owner.get("repetition")
    if belongs != (run.experiment.identity, run.repetition):
        raise _Unusable("foreign", f"belongs to another run ({belongs[0]} #{belongs[1]})")
    state.pop(SEAL, None)
    return UsableCheckpoint(path, state, sha, seal is not None)


def _whole_archive(content: bytes) -> bool:
    """Check the CRC of every member of a file that torch wrote, which torch itself does not. All that format 1 has."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        return False


def _checked_sha256(state: dict[str, object], owner: object, sealed: bool) -> str:
    if not isinstance(owner, dict):
        raise _Unusable("damaged", "does not say whose it is")
    unsigned = {SEAL: {key: value for key, value in owner.items() if key != "sha256"}} if sealed else {}
    try:
        found = content_sha256(state | unsigned)
    except TypeError as error:
        raise _Unusable("damaged", f"is damaged ({error})") from error
    if sealed and found != owner.get("sha256"):
        raise _Unusable("damaged", "is damaged (its content does not have the SHA-256 that it carries)")
    if sealed and owner.get("format") != FORMAT:
        raise _Unusable("newer", f"has format {owner.get('format')}, which this program does not know")
    return found


def content_sha256(content: object) -> str:
    """Return a SHA-256 of nested mappings, sequences, tensors and plain values. It is equal before and after storing.

    Raises:
        TypeError: something in it is none of these, and could not be loaded again.
    """
    digest = hashlib.sha256()
    _feed(digest, content)
    return digest.hexdigest()


def _feed(digest: hashlib._Hash, value: object) -> None:
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous()
        digest.update(f"tensor|{plain.dtype}|{tuple(plain.shape)}|{value.requires_grad}|".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else b"")
    elif isinstance(value, dict) and type(value) in (dict, OrderedDict, Counter):
        digest.update(f"mapping|{len(value)}|".encode())
        for key, held in value.items():
            _feed(digest, key)
            _feed(digest, held)
        # Versions of modules, which decide how torch reads a state dict, are an attribute of it.
        _feed(digest, getattr(value, "_metadata", None))
    elif isinstance(value, list | tuple) and type(value) in (list, tuple, torch.Size):
        digest.update(f"{type(value).__name__}|{len(value)}|".encode())
        for held in value:
            _feed(digest, held)
    elif type(value) in _PLAIN:  # not subclasses: numpy's numbers are some, and could not be loaded again
        text = repr(value).encode()
        digest.update(f"{type(value).__name__}|{len(text)}|".encode() + text)
    else:
        raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}")


def tensors_sha256(state: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 of names, types, shapes and bytes. Equal weights give equal hashes, however they are stored."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name}|{plain.dtype}|{tuple(plain.shape)}|".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    return digest.hexdigest()
