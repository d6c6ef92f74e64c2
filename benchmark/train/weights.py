"""Given weights, named by a library, an address or a path: found, downloaded, read once and checked."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import tarfile
from http.client import HTTPException
from pathlib import Path
from urllib.parse import unquote

from benchmark.data.locate import OFFLINE
from benchmark.errors import MissingInput, UsageError, nearest
from benchmark.machine.files import write_atomically
from benchmark.machine.shipped import SHIPPED
from benchmark.models import openmmlab
from benchmark.models.checkpoints import WeightFile
from benchmark.records.store import Store

LIBRARIES = ("torchvision", "timm", "mmdet", "mmseg", "open-mmlab")
# All of them, and torch.hub, end names so: name-<first digits of the file's sha256>.pth
_HASHED = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")


def is_named(weights: str) -> bool:
    """Return True if the weights are named by a library that knows their address."""
    return weights.partition(":")[0] in LIBRARIES


def weights_file(reference: str, store: Store, sha256: str | None = None, mirror: str | None = None) -> WeightFile:
    """Return a manifest's weights, downloaded if their address is known, and checked against the pinned SHA-256.

    `torchvision:NAME`, `timm:NAME`, `mmdet:FILE`, `mmseg:FILE` and `open-mmlab://NAME` are published by these
    libraries. A path may be relative to the current folder, to the folder of fetched weights, or to what comes with the
    program. If an address does not answer, the `mirror` is asked for the same file; `ARCHIVE.tar#MEMBER` is a file in
    an archive.

    Raises:
        MissingInput: the file is missing and cannot be fetched, or its SHA-256 differs.
    """
    if is_named(reference):
        file = WeightFile.read(_fetched(address(reference), store, named=True))
        digits = _HASHED.search(file.path.name)
        _check(file, digits[1] if digits else None, "its own name says", f"delete {file.path} and fetch it again")
    elif "://" in reference:
        file = WeightFile.read(_fetched(reference, store, named=False, mirror=mirror))
    else:
        file = WeightFile.read(_at(reference, store))
    _check(file, sha256, "the suite says", "fetch the file again, or correct the suite")
    return file


def _at(reference: str, store: Store) -> Path:
    # Weights that come with the program, beside their record, are named `results/...` wherever one stands.
    places = (Path(reference).expanduser(), store.runs / "weights" / reference, SHIPPED / reference)
    for path in places:
        if path.is_file():
            return path
    folder = store.runs / "weights"
    raise MissingInput(
        f"no weights at {reference}, nor in {folder}", f"put the file into {folder}, or change `weights` in the suite"
    )


def address(weights: str) -> str:
    """Return the address at which a library publishes the weights of this name.

    Raises:
        UsageError: the library does not know the name.
        MissingInput: the library's packages are not installed.
    """
    library, _, name = weights.partition(":")
    if library == "torchvision":
        return _of_torchvision(name)
    if library == "timm":
        return _of_timm(name)
    if library == "open-mmlab":
        return _of_openmmlab(name.removeprefix("//"))
    return _of_zoo(library, name)


def _of_torchvision(name: str) -> str:
    from torchvision import models

    try:
        return str(models.get_weight(name).url)
    except (ValueError, AttributeError, KeyError) as error:
        known = [str(entry) for model in models.list_models() for entry in models.get_model_weights(model)]
        raise UsageError(f"torchvision has no weights {name!r}", nearest(name, known)) from error


def _of_timm(name: str) -> str:
    import timm

    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # timm's answer to a tag that it does not know
        config = None
    if config is None or not config.url:
        known = timm.list_pretrained(f"{name.partition('.')[0]}*")
        raise UsageError(f"timm has no file of weights {name!r}", nearest(name, known))
    return str(config.url)


def _of_openmmlab(name: str) -> str:
    openmmlab.prepare()
    from mmengine.runner.checkpoint import get_external_models

    known: dict[str, str] = get_external_models()
    if name not in known:
        raise UsageError(f"open-mmlab has no weights {name!r}", nearest(name, known))
    return known[name]


def _of_zoo(package: str, file: str) -> str:
    for metafile in sorted(openmmlab.configs(package).glob("*/metafile.y*ml")):
        for url in re.findall(r"Weights:\s*(\S+)", metafile.read_text()):
            if unquote(str(url)).endswith("/" + unquote(file)):
                return str(url)
    raise MissingInput(f"{package}'s model zoo has no file {file}", "correct the name in the suite")


def _fetched(url: str, store: Store, named: bool, mirror: str | None = None) -> Path:
    from torch import hub

    name, folder = unquote(url.rsplit("/", 1)[-1]), store.runs / "weights"
    # Two addresses may end in the same name. A library's names are its own, and torch.hub keeps them too.
    fetched = folder / name if named else folder / hashlib.sha256(url.encode()).hexdigest()[:12] / name
    places = [fetched, Path(hub.get_dir()) / "checkpoints" / name] if named else [fetched]
    for path in places:
        if path.is_file():
            return path
    quoted = shlex.quote(str(fetched))
    by_hand = (
        f"fetch it by hand to {fetched}: mkdir -p {shlex.quote(str(fetched.parent))} && curl -fL -o {quoted} {url}"
    )
    if os.environ.get(OFFLINE) and not url.startswith("file:"):
        looked = " or ".join(str(place.parent) for place in places)
        raise MissingInput(f"{name} is not in {looked}, and ${OFFLINE} is set", by_hand)
    fetched.parent.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    for place in filter(None, (url, mirror)):
        try:
            _download(place, fetched)
        except (OSError, HTTPException) as error:
            failed.append(f"cannot download {place}: {error}")
        else:
            return fetched
    raise MissingInput("\n".join(failed), f"{by_hand}; or from {mirror}" if mirror else by_hand)


def _download(place: str, to: Path) -> None:
    """Download a file, or `ARCHIVE.tar#MEMBER`. An archive is kept, for the others of its members."""
    from torch import hub

    url, _, member = place.partition("#")
    if not member:
        hub.download_url_to_file(url, str(to), progress=False)
        return
    archive = to.parent.parent / hashlib.sha256(url.encode()).hexdigest()[:12] / unquote(url.rsplit("/", 1)[-1])
    if not archive.is_file():
        archive.parent.mkdir(parents=True, exist_ok=True)
        hub.download_url_to_file(url, str(archive), progress=False)
    try:
        with tarfile.open(archive) as opened:
            found = opened.extractfile(member)
            content = found.read() if found is not None else None
    except (tarfile.TarError, KeyError) as error:
        raise OSError(f"{archive} has no readable file {member} ({error}); deleted, it is fetched again") from error
    if content is None:
        raise OSError(f"{member} in {archive} is no file")
    write_atomically(to, lambda file: file.write(content))


def _check(file: WeightFile, pinned: str | None, who: str, fix: str) -> None:
    if pinned is not None and not file.sha256.startswith(pinned.lower()):
        raise MissingInput(f"{file.path} is not the pinned file: sha256 {file.sha256}, {who} {pinned}", fix)
