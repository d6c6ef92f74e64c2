"""A watch on the precision in which matrix products and convolutions are computed.

PyTorch lets cuDNN round float32 to TF32 by default. The settings can be read on a CPU too, where they change nothing:
they are noted at every matrix product and convolution, backward passes included.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Settings = tuple[str, bool]  # of matrix products, of cuDNN
FP32, TF32 = ("highest", False), ("high", True)
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward", "_convolution"}
# Functions that run a network for the shapes of its maps alone: file and name.
SHAPES_ALONE = {("taps.py", "shapes"), ("library.py", "_forward")}


def settings() -> Settings:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


class Watch(TorchDispatchMode):
    """A record of the settings of all products, each with the functions of this project that caused it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[Settings, set[str]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in PRODUCTS and not any(getattr(a, "is_meta", False) for a in args):
            callers = list(_callers())
            if SHAPES_ALONE.isdisjoint(callers):
                self.found.setdefault(settings(), set()).add(" < ".join(map(":".join, callers)))
        return func(*args, **(kwargs or {}))


def _callers() -> Iterator[tuple[str, str]]:
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if "benchmark" in path.parts or "methods" in path.parts:
            yield path.name, frame.f_code.co_name
        frame = frame.f_back  # type: ignore[assignment]


@contextlib.contextmanager
def watched_products() -> Iterator[Watch]:
    """Watch a process whose default is TF32, and check that this default is unchanged afterwards."""
    before = settings()
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    try:
        with Watch() as watched:
            yield watched
        assert settings() == TF32, "the settings of the process were not given back"
        assert watched.found, "nothing was computed"
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
