"""The weights of a finished run, put back into the networks that a probe looks into."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark.errors import MissingInput
from benchmark.plan.experiment import Run
from benchmark.records.store import Store
from methods.base import Method


def restore(run: Run, store: Store, student: nn.Module, method: Method) -> None:
    """Load a finished run's weights into its plain student and into the side networks of its method.

    Raises:
        MissingInput: the student's weights or the side networks are not kept.
    """
    weights, side = store.weights(run), store.paths(run).side_networks
    record = store.paths(run).record
    if weights is None:
        raise MissingInput(f"{run.label} has no weights in {store.runs}", _again(record))
    student.load_state_dict(_read(weights))
    if method.state_dict():
        if not side.is_file():
            raise MissingInput(f"{side} is gone, without which nothing is denoised", _again(record))
        method.load_state_dict(_read(side))


def _again(record: Path) -> str:
    return f"move {record} away and run its suite, without --drop-side-networks"


def _read(path: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return found
