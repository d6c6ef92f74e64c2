"""Files of weights from any source: read once, identified by the SHA-256 of their bytes, never run as code."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from benchmark.errors import MissingInput

_NESTED = ("state_dict", "model", "net")  # under which training programs keep the weights


@dataclass(frozen=True)
class WeightFile:
    """A file's bytes as they were when it was read: the loaded bytes are the hashed ones."""

    path: Path
    sha256: str
    content: bytes = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> WeightFile:
        """Read a file.

        Raises:
            MissingInput: the file is not there or cannot be read.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise MissingInput(f"{path} cannot be read: {error.strerror}", "name a file of weights") from error
        return cls(path, hashlib.sha256(content).hexdigest(), content)

    @property
    def facts(self) -> dict[str, str]:
        """Return the file's name and hash for records."""
        return {"file": self.path.name, "sha256": self.sha256}

    def tensors(self) -> dict[str, Tensor]:
        """Return the file's state dict, bare or under `state_dict`, `model` or `net`, without DataParallel's prefix.

        Raises:
            MissingInput: the file is no checkpoint of tensors.
        """
        try:
            content = self._loaded()
        except Exception as error:  # torch, zipfile and pickle raise of many kinds
            raise MissingInput(
                f"{self.path} is no readable checkpoint ({type(error).__name__}: {str(error).splitlines()[0]})",
                "fetch the file again, or convert it to tensors alone with torch.save(model.state_dict(), ...)",
            ) from error
        for key in _NESTED:
            if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
                content = content[key]
        if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
            keys = list(content)[:5] if isinstance(content, Mapping) else type(content).__name__
            raise MissingInput(
                f"{self.path} holds no state dict, but {keys}",
                f"name a file of tensors, bare or under {', '.join(_NESTED)}",
            )
        return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}

    def _loaded(self) -> object:
        # MMEngine's checkpoints hold the history of the losses, with classes of its own, which torch's safe reading
        # refuses even where only the tensors beside it are wanted: an empty class stands in for each of them.
        serialization = torch.serialization
        try:
            foreign = serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(self.content))
        except ValueError:  # a file of before torch 1.6, which cannot be looked through
            foreign = []
        with serialization.safe_globals([(_Unread, name) for name in foreign]):
            return torch.load(io.BytesIO(self.content), map_location="cpu", weights_only=True)


class _Unread(dict[object, object]):
    """A placeholder for a checkpoint's objects that are not tensors: it accepts anything and does nothing."""

    def __init__(self, *parts: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None: ...
