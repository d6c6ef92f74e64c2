"""OpenMMLab's packages: optional, found by name, prepared once before anything of theirs is imported."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path

from benchmark.errors import MissingInput

PACKAGES = {"mmengine": "mmengine", "mmcv": "mmcv-lite", "mmdet": "mmdet", "mmseg": "mmsegmentation"}
FIX = "pip install '.[dense]'"


def missing() -> list[str]:
    """Return the names of the packages that are not installed. None is imported."""
    return [name for name in PACKAGES if find_spec(name) is None]


@cache
def import_formatter() -> None:
    """Import yapf, which MMEngine imports, while no other process on this machine does.

    Its first import on a machine writes a cache file in place, and a process that starts meanwhile reads half of it.
    """
    with (Path(tempfile.gettempdir()) / f"benchmark-yapf-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(ImportError):  # what needs it reports that it is missing
            import_module("yapf")


@cache
def prepare() -> None:
    """Make `mmengine`, `mmdet` and `mmseg` importable and fill their registries.

    Raises:
        MissingInput: they are not installed.
    """
    if absent := missing():
        raise MissingInput(f"detection and segmentation need {', '.join(absent)}, not installed here", FIX)
    from benchmark.models import mmcv_ops

    import_formatter()
    with warnings.catch_warnings():  # their own imports warn of what their newer versions would do
        warnings.simplefilter("ignore")
        mmcv_ops.install()
        try:
            import mmdet.utils
            import mmseg.utils
            from mmengine.logging import MMLogger
        except ImportError as error:
            libraries = "apt-get install libgl1 libglib2.0-0, where the error names libGL, which opencv-python needs"
            raise MissingInput(f"OpenMMLab's packages cannot be imported: {error}", libraries) from error

        MMLogger.get_instance("benchmark", log_level="CRITICAL")  # they log every tensor that they initialise
        mmseg.utils.register_all_modules(init_default_scope=False)
        mmdet.utils.register_all_modules(init_default_scope=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress what pycocotools prints."""
    with redirect_stdout(io.StringIO()):
        yield


@contextmanager
def scope(package: str) -> Iterator[None]:
    """Resolve names in configurations in a package, `mmdet` or `mmseg`."""
    prepare()
    from mmengine.registry import DefaultScope

    _forget_closed_files()
    with DefaultScope.overwrite_default_scope(package):
        yield


def _forget_closed_files() -> None:
    """Remove closed log files from MMEngine's loggers.

    Configuring python's logging closes them, and writing would fail.
    """
    from mmengine.logging import MMLogger

    for logger in MMLogger._instance_dict.values():
        closed = [h for h in logger.handlers if isinstance(h, logging.FileHandler) and h.stream is None]
        for handler in closed:
            logger.removeHandler(handler)


def configs(package: str) -> Path:
    """Return the folder of a package's own configuration files, which its wheel contains."""
    prepare()
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / ".mim" / "configs"


def versions() -> dict[str, str]:
    """Return installed versions, by distribution."""
    found = {}
    for distribution in PACKAGES.values():
        try:
            found[distribution] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return found
