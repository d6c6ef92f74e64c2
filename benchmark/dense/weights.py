"""Published weights by the names that manifests use, checked against the digits of their own file names."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import torch
from torch import Tensor, nn

from benchmark.data.locate import OFFLINE
from benchmark.dense import stack
from benchmark.errors import MissingInput

_PINNED = re.compile(r"-([0-9a-f]{8})\.pth$")  # the first digits of the file's sha256, as torch.hub writes them


def resolve(reference: str, folder: Path) -> Path:
    """The file that a reference names, fetched into `folder` where it is not there yet.

    `mmdet:FILE` and `mmseg:FILE` are checkpoints of their model zoos, `torchvision:NAME` weights of torchvision,
    `open-mmlab://NAME` backbones of OpenMMLab; all else is a path, which may be one below `folder`.

    Raises:
        MissingInput: it is nowhere, or it is not the published file.
    """
    kind, _, name = reference.partition(":")
    if kind in ("mmdet", "mmseg"):
        return _fetched(_zoo_url(kind, name), folder, unquote(name))
    if kind == "torchvision":
        from torchvision.models import get_weight

        url = str(get_weight(name).url)
        return _fetched(url, folder, url.rsplit("/", 1)[-1])
    if kind == "open-mmlab":
        stack.prepare()
        from mmengine.runner.checkpoint import get_external_models

        url = get_external_models()[name.removeprefix("//")]
        return _fetched(url, folder, url.rsplit("/", 1)[-1])
    for path in (Path(reference).expanduser(), folder / reference):
        if path.is_file():
            return path
    raise MissingInput(
        f"no weights at {reference}, nor in {folder}", f"put the file into {folder}, or change `weights` in the suite"
    )


def _zoo_url(package: str, file: str) -> str:
    for metafile in sorted(stack.configs(package).glob("*/metafile.y*ml")):
        for url in re.findall(r"Weights:\s*(\S+)", metafile.read_text()):
            if unquote(str(url)).endswith("/" + unquote(file)):
                return str(url)
    raise MissingInput(f"{package}'s model zoo has no file {file}", "correct the name in the suite")


def _fetched(url: str, folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        if os.environ.get(OFFLINE):
            raise MissingInput(f"{name} is not in {folder}, and ${OFFLINE} is set", f"curl -fL -o {path} {url}")
        from torch.hub import download_url_to_file

        folder.mkdir(parents=True, exist_ok=True)
        try:
            download_url_to_file(url, str(path), progress=False)
        except OSError as error:
            raise MissingInput(f"cannot download {url}: {error}", f"fetch it by hand to {path}") from error
    pinned = _PINNED.search(name)
    if pinned is not None and not (found := _sha256(path)).startswith(pinned[1]):
        raise MissingInput(
            f"{path} is not the published file: its sha256 is {found[:8]}..., its name says {pinned[1]}",
            f"delete it, and fetch {url} again",
        )
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_of(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, whoever wrote it: bare, or under `state_dict` or `model`.

    Raises:
        MissingInput: it is no checkpoint of tensors.
    """
    try:
        content = _content(path)
    except Exception as error:
        raise MissingInput(
            f"{path} is no readable checkpoint ({type(error).__name__}: {str(error).splitlines()[0]})",
            "fetch the file again, or convert it to a file of tensors alone with torch.save(model.state_dict(), ...)",
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise MissingInput(f"{path} holds no state dict", "name a file of tensors")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


class _Unread(dict[Any, Any]):
    """Stands where a checkpoint names a class or function that is no tensor's: it takes anything and does nothing."""

    def __init__(self, *parts: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None: ...


def _content(path: Path) -> Any:
    """A checkpoint without running any code of it: MMEngine's hold the history of the losses, with classes of its own.

    torch's safe reading refuses what it does not know, even where only the tensors beside it are wanted.
    """
    serialization = torch.serialization
    try:
        foreign = serialization.get_unsafe_globals_in_checkpoint(path)
    except ValueError:  # a file of before torch 1.6, which cannot be looked through
        foreign = []
    with serialization.safe_globals([(_Unread, name) for name in foreign]):
        return torch.load(path, map_location="cpu", weights_only=True)


def load_whole(network: nn.Module, path: Path) -> None:
    """A checkpoint into a network that must take all its weights from it.

    Raises:
        MissingInput: a tensor is missing or has another shape.
    """
    _load(network, state_of(path), path)


def load_backbone(network: nn.Module, path: Path) -> None:
    """A classifier's weights into `network.backbone`; what the classifier has beyond it is left out.

    Raises:
        MissingInput: the backbone needs a tensor that is not there.
    """
    backbone = network.get_submodule("backbone")
    _load(backbone, {name.removeprefix("backbone."): value for name, value in state_of(path).items()}, path)


def inherit(student: nn.Module, teacher: nn.Module) -> list[str]:
    """FGD's inheriting strategy: the student's neck and heads start as the teacher's where their shapes agree.

    Returns the names of the tensors that were taken.
    """
    wanted = student.state_dict()
    taken = {
        name: tensor
        for name, tensor in teacher.state_dict().items()
        if not name.startswith("backbone.") and name in wanted and wanted[name].shape == tensor.shape
    }
    student.load_state_dict(taken, strict=False)
    return list(taken)


def _load(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        absent = network.load_state_dict(dict(state), strict=False).missing_keys
    except RuntimeError as error:
        raise MissingInput(
            f"{path} does not fit {type(network).__name__}: {str(error).splitlines()[1].strip()}",
            "name the model that the file was saved from",
        ) from error
    # Files of before batch norms counted their batches lack the counters, which nothing reads.
    absent = [name for name in absent if not name.endswith("num_batches_tracked")]
    if absent:
        more = f" and {len(absent) - 4} more" if len(absent) > 4 else ""
        raise MissingInput(
            f"{path} is no checkpoint of this {type(network).__name__}: it lacks {', '.join(absent[:4])}{more}",
            "name the model that the file was saved from",
        )
