"""The device of a process: the one that the user asked for, checked against the devices of the machine."""

from __future__ import annotations

import os

import torch

from benchmark.errors import UsageError
from benchmark.machine import provenance
from benchmark.machine.ranks import asked_for


def pick_device(name: str) -> str:
    """Return a device that is available.

    Raises:
        UsageError: the device is not available, or the name is no device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"{name!r} is not the name of a device", "--device cpu, cuda or cuda:0") from error
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise UsageError(
            f"{name} is not available: torch sees {torch.cuda.device_count()} CUDA devices",
            "--device cpu; python -m benchmark doctor shows what is missing",
        )
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device type {device.type!r} is not supported", "--device cpu or cuda")
    return str(device)


def devices_of(device: str, at_most: int | None) -> list[int]:
    """Return the indices of the CUDA devices that `--launcher local` may use; an empty list on a CPU."""
    if not device.startswith("cuda"):
        return []
    _, _, index = device.partition(":")
    found = [int(index)] if index else list(range(torch.cuda.device_count()))
    return found[: at_most or len(found)]


def local_device(device: str) -> str:
    """Return this process's device on its machine: `cuda` becomes `cuda:1` for the second process."""
    if asked_for() == 1 or device.split(":")[0] != "cuda":
        return device
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local >= torch.cuda.device_count():
        raise UsageError(
            f"process {local} on this machine has no GPU: torch sees {torch.cuda.device_count()} CUDA devices",
            f"torchrun --nproc_per_node {max(1, torch.cuda.device_count())}, or --device cpu",
        )
    return f"cuda:{local}"


def hardware(device: str) -> dict[str, str | int]:
    """Return the processor's name, cores and instruction set, and the name of the GPU if the device is one."""
    gpu = {"gpu": torch.cuda.get_device_name(device)} if device.startswith("cuda") else {}
    return {**provenance.hardware(), "instructions": torch.backends.cpu.get_cpu_capability(), **gpu}
