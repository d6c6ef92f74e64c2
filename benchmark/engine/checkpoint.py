"""Checkpoints: everything a run needs to go on, written atomically, the one before kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.files import write_atomically


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint and keep the one before it, in case this one turns out to be unreadable.

    Raises:
        StorageError: the disk is full or not writable; the earlier checkpoint is untouched.
    """
    fresh = path.with_name(f"fresh-{path.name}")
    write_atomically(fresh, lambda file: torch.save(dict(state), file))
    if path.exists():
        path.replace(previous(path))
    fresh.replace(path)


def previous(path: Path) -> Path:
    """Where the checkpoint before the last lies."""
    return path.with_name(f"previous-{path.name}")


def load(path: Path, say: Any = print) -> dict[str, Any] | None:
    """The newest readable checkpoint of a run, None where there is none. An unreadable one is named and passed over."""
    # A process killed between the two renames of `save` leaves the newest as `fresh-`.
    for candidate in (path.with_name(f"fresh-{path.name}"), path, previous(path)):
        if not candidate.exists():
            continue
        try:
            state: dict[str, Any] = torch.load(candidate, map_location="cpu", weights_only=True)
        except Exception as error:
            say(f"{candidate} cannot be read ({type(error).__name__}): the one before it is taken, if there is one")
            continue
        return state
    return None


def remove(path: Path) -> None:
    """Delete a finished run's checkpoints."""
    for candidate in (path, previous(path), path.with_name(f"fresh-{path.name}")):
        candidate.unlink(missing_ok=True)


def tensors_sha256(state: Mapping[str, Tensor]) -> str:
    """Hash of names, types, shapes and bytes: equal weights give equal hashes, however they are stored."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name}|{plain.dtype}|{tuple(plain.shape)}|".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    return digest.hexdigest()
