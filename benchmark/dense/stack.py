"""OpenMMLab's packages: optional, found by name, prepared once before anything of theirs is imported."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from benchmark.errors import MissingInput

PACKAGES = {"mmengine": "mmengine", "mmcv": "mmcv-lite", "mmdet": "mmdet", "mmseg": "mmsegmentation"}
SCOPES = {"detection": "mmdet", "segmentation": "mmseg"}
FIX = "pip install '.[dense]'"


def missing() -> list[str]:
    """The packages that are not installed, without importing any."""
    return [name for name in PACKAGES if find_spec(name) is None]


@cache
def prepare() -> None:
    """Make `mmengine`, `mmdet` and `mmseg` importable and their registries filled.

    Raises:
        MissingInput: they are not installed.
    """
    if absent := missing():
        raise MissingInput(f"detection and segmentation need {', '.join(absent)}, not installed here", FIX)
    from benchmark.dense import ops

    with warnings.catch_warnings():  # their own imports warn of what their newer versions would do
        warnings.simplefilter("ignore")
        ops.install()
        try:
            import mmdet.utils
            import mmseg.utils
            from mmengine.logging import MMLogger
        except ImportError as error:
            libraries = "apt-get install libgl1 libglib2.0-0, where the error names libGL, which opencv-python needs"
            raise MissingInput(f"OpenMMLab's packages cannot be imported: {error}", libraries) from error

        MMLogger.get_instance("benchmark", log_level="CRITICAL")  # what they tell of every initialised tensor
        mmseg.utils.register_all_modules(init_default_scope=False)
        mmdet.utils.register_all_modules(init_default_scope=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Without what pycocotools prints."""
    with redirect_stdout(io.StringIO()):
        yield


@contextmanager
def scope(task: str) -> Iterator[None]:
    """Names in configurations mean the package of this task, `detection` or `segmentation`."""
    prepare()
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope(SCOPES[task]):
        yield


def configs(package: str) -> Path:
    """The folder of a package's own configuration files, which its wheel carries."""
    prepare()
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / ".mim" / "configs"


def versions() -> dict[str, str]:
    """Installed versions, by distribution."""
    found = {}
    for distribution in PACKAGES.values():
        try:
            found[distribution] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return found
