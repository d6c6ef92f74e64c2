"""Numerical precision as a recorded setting."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch

from benchmark.errors import UsageError

EVALUATED = "fp32"  # the precision of runs and commands that only evaluate given weights

T = TypeVar("T")


def check(precision: str, device: torch.device) -> None:
    """Raise if a device does not support a precision, before anything is built.

    Raises:
        UsageError: the device lacks the precision.
    """
    if precision in ("tf32", "fp16") and device.type != "cuda":
        raise UsageError(
            f"{precision} needs a CUDA device, and this run is on {device.type}",
            "--device cuda, or precision fp32 or bf16 in the manifest",
        )
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise UsageError("this GPU has no bf16", "precision fp32 or fp16 in the manifest")


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a forward pass runs."""
    types = {"bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in types:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=types[precision], cache_enabled=False)


@contextlib.contextmanager
def arithmetic(precision: str, deterministic: bool | None = None) -> Iterator[None]:
    """Compute in a precision, deterministically or not, and restore all process-wide settings afterwards.

    Everything that computes a recorded number runs in here: torch lets cuDNN round float32 to TF32 unless it is told
    not to. `deterministic` None leaves determinism as it is.

    Deterministic mode here does not fill new tensors with NaN. Filling costs a pass over every map of every step; it
    finds reads of unwritten memory, but does not make their results correct.
    """
    if deterministic is None:
        with _products(tf32=precision == "tf32"):
            yield
        return
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    fills: Any = torch.utils.deterministic  # its setting is a property of the module, unknown to type checkers
    was_filling = fills.fill_uninitialized_memory
    torch.use_deterministic_algorithms(deterministic)
    fills.fill_uninitialized_memory = False
    try:
        with _products(tf32=precision == "tf32"):
            yield
    finally:
        torch.use_deterministic_algorithms(was_deterministic)
        fills.fill_uninitialized_memory = was_filling


@contextlib.contextmanager
def _products(tf32: bool) -> Iterator[None]:
    """Set how matrix products and convolutions of float32 are computed.

    Torch has two interfaces to one state, and reading by the older one raises where the two disagree. Libraries read
    either. So both are set here, to the same, and the newer one alone is trusted to tell what was set before.
    """
    backends: Any = torch.backends
    convolutions = [backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.conv, backends.mkldnn.rnn]
    switches = [backends.cuda.matmul, backends.mkldnn.matmul, *convolutions]
    was = [switch.fp32_precision for switch in switches]
    older = _older(torch.get_float32_matmul_precision), _older(lambda: torch.backends.cudnn.allow_tf32)
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    for switch in convolutions:  # the older interface leaves them to the setting for all operations, which may be TF32
        switch.fp32_precision = "tf32" if tf32 else "ieee"
    try:
        yield
    finally:
        if older[0] is not None:
            torch.set_float32_matmul_precision(older[0])
        if older[1] is not None:
            torch.backends.cudnn.allow_tf32 = older[1]
        for switch, before in zip(switches, was, strict=True):
            switch.fp32_precision = before


def _older(read: Callable[[], T]) -> T | None:
    """Return a setting as torch's older interface reports it, or None if the user has set it by the newer one."""
    try:
        return read()
    except RuntimeError:
        return None


def circumstances(precision: str, device: torch.device) -> list[str]:
    """Return what decides a measurement's last digits besides weights and data: device, GPU and precision."""
    gpu = [torch.cuda.get_device_name(device)] if device.type == "cuda" else []
    return [device.type, *gpu, precision]
