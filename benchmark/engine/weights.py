"""Files of published weights: named by torchvision or timm, by an address or by a path; found, fetched, checked."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from pathlib import Path

from benchmark.data.locate import OFFLINE
from benchmark.discovery import ROOT
from benchmark.errors import MissingInput, UsageError, nearest
from benchmark.manifest import TeacherSpec
from benchmark.models.registry import LIBRARIES
from benchmark.records import Store

# Both libraries, and torch.hub, end names so: name-<first digits of the file's sha256>.pth
_HASHED = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")


def is_named(weights: str) -> bool:
    """Whether a library knows where the weights are."""
    return weights.partition(":")[0] in LIBRARIES


def weights_file(spec: TeacherSpec, store: Store) -> Path:
    """The file of a manifest's weights, fetched where it is known from where, with the bytes that are pinned.

    Raises:
        MissingInput: it is not there and cannot be fetched, or it is another file.
    """
    if is_named(spec.weights):
        path = _fetched(address(spec.weights), store)
    elif "://" in spec.weights:
        path = _fetched(spec.weights, store)
    else:
        path = Path(spec.weights).expanduser()
        if not path.is_file():
            path = ROOT / path  # weights that lie beside their record in results/; an absolute path stays itself
        if not path.is_file():
            raise MissingInput(f"no weights at {spec.weights}", "put the file there, or change `weights` in the suite")
    _check(path, spec)
    return path


def address(weights: str) -> str:
    """Where a library has `torchvision:NAME` or `timm:NAME`.

    Raises:
        UsageError: the library does not know the name.
    """
    library, _, name = weights.partition(":")
    if library == "torchvision":
        from torchvision import models

        try:
            return str(models.get_weight(name).url)
        except (ValueError, AttributeError, KeyError) as error:
            known = [str(entry) for model in models.list_models() for entry in models.get_model_weights(model)]
            raise UsageError(f"torchvision has no weights {name!r}", nearest(name, known)) from error
    import timm

    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # timm's answer to a tag that it does not know
        config = None
    if config is None or not config.url:
        known = timm.list_pretrained(f"{name.partition('.')[0]}*")
        raise UsageError(f"timm has no file of weights {name!r}", nearest(name, known))
    return str(config.url)


def _fetched(url: str, store: Store) -> Path:
    from torch import hub

    name = url.rsplit("/", 1)[-1]
    places = [store.runs / "weights" / name, Path(hub.get_dir()) / "checkpoints" / name]  # torch.hub's: both libraries'
    for path in places:
        if path.is_file():
            return path
    path = places[0]
    quoted = shlex.quote(str(path))
    by_hand = f"fetch it by hand to {path}: mkdir -p {shlex.quote(str(path.parent))} && curl -fL -o {quoted} {url}"
    if os.environ.get(OFFLINE) and not url.startswith("file:"):
        raise MissingInput(
            f"{name} is not in {' or '.join(str(place.parent) for place in places)}, and ${OFFLINE} is set", by_hand
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        hub.download_url_to_file(url, str(path), progress=False)
    except OSError as error:
        raise MissingInput(f"cannot download {url}: {error}", by_hand) from error
    return path


def _check(path: Path, spec: TeacherSpec) -> None:
    found_in_name = _HASHED.search(path.name) if is_named(spec.weights) else None
    pinned = spec.sha256 or (found_in_name[1] if found_in_name else None)
    if pinned is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(pinned.lower()):
        says = "the suite says" if spec.sha256 else "its own name says"
        raise MissingInput(
            f"{path} is not the pinned file: sha256 {found}, {says} {pinned}",
            "fetch the file again, or correct the suite" if spec.sha256 else f"delete {path} and fetch it again",
        )
