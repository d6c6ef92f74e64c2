"""Numerical precision as a recorded setting."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch

from benchmark.errors import UsageError
from benchmark.tasks.dense import TASKS


def check(precision: str, device: torch.device, task: str = "classification") -> None:
    """Refuse what a device does not have, before anything is built.

    Raises:
        UsageError: the device lacks the precision.
    """
    if precision != "fp32" and device.type != "cuda" and task in TASKS:
        why = "" if precision == "tf32" else ": MMEngine has mixed precision for GPUs alone"
        raise UsageError(
            f"{precision} in {task} needs a CUDA device, and this run is on {device.type}{why}",
            "--device cuda, or precision fp32 in the manifest",
        )
    if precision in ("tf32", "fp16") and device.type != "cuda":
        raise UsageError(
            f"{precision} needs a CUDA device, and this run is on {device.type}",
            "--device cuda, or precision fp32 or bf16 in the manifest",
        )
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise UsageError("this GPU has no bf16", "precision fp32 or fp16 in the manifest")


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which a forward pass runs."""
    types = {"bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in types:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=types[precision], cache_enabled=False)


@contextlib.contextmanager
def arithmetic(precision: str, deterministic: bool) -> Iterator[None]:
    """Matrix precision and determinism for the length of a run, given back as they were.

    Determinism without torch's filling of new tensors with NaN, a pass over every map of every step: it finds reads of
    memory that nobody wrote, and does not make their results any more right.
    """
    was = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    fills: Any = torch.utils.deterministic  # its setting is a property of the module, unknown to type checkers
    was_filling = fills.fill_uninitialized_memory
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.use_deterministic_algorithms(deterministic)
    fills.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(was[0])
        torch.backends.cudnn.allow_tf32 = was[1]
        torch.use_deterministic_algorithms(was_deterministic)
        fills.fill_uninitialized_memory = was_filling
