"""A registered method with its default options on a tiny pair: what all tests over every method build on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import pytest
import torch
from detection_pair import detection_setup
from pairs import Setup, setup
from segmentation_pair import segmentation_setup
from torch import nn

from benchmark.errors import CannotServe
from benchmark.models.taps import resolve_roles
from methods.base import Losses, Method, Moment
from methods.registry import MethodEntry, methods

LATE = 100.0  # epochs: past every warm-up
PAIRS: Mapping[str, Callable[[], Setup]] = {
    "equal": lambda: setup("equal"),
    "unequal": lambda: setup("unequal"),
    "detection": detection_setup,
    "segmentation": segmentation_setup,
}

# Options that give a method other side networks or state: what holds of every method's defaults must hold of these.
OTHER_OPTIONS: Mapping[str, Mapping[str, object]] = {"cwd": {"adversarial_weight": 0.001}}


def moment(seed: int = 0, epoch: float = LATE) -> Moment:
    when = (torch.tensor(epoch), torch.tensor(epoch / 240), torch.Generator().manual_seed(seed))
    return Moment(*when, step=torch.tensor(1000 * epoch))


def served(entry: MethodEntry, on: Setup, seed: int = 0, options: Mapping[str, object] | None = None) -> Method:
    """Built as a run does it: taps that a network lacks are found before the method is built."""
    kind = entry.load()
    method = kind(kind.Options(**options or {}))
    for shapes in (on.pair.student_shapes, on.pair.teacher_shapes):
        resolve_roles(method.taps, shapes)
    return on.build(method, seed)


@cache
def why_not(name: str, pair: str) -> str:
    """Why a method cannot serve a pair; empty where it can."""
    try:
        served(methods()[name], PAIRS[pair]())
    except CannotServe as reason:
        return str(reason)
    return ""


class Trial:
    """One method, by default with its default options, on one pair; skipped where it cannot serve the pair."""

    def __init__(self, entry: MethodEntry, pair: str, options: Mapping[str, object] | None = None) -> None:
        if reason := why_not(entry.name, pair):
            pytest.skip(reason)
        self.entry, self.options = entry, options
        self.setup = PAIRS[pair]()
        self.method = self.fresh()
        self.setup.wrap(self.method)

    def fresh(self, seed: int = 0) -> Method:
        """Another instance, with initial values of its own."""
        return served(self.entry, self.setup, seed, self.options)

    def losses(self, now: Moment | None = None) -> Losses:
        return self.method.losses(*self.setup.outputs(), self.setup.batch, now or moment())

    def trainable(self) -> dict[str, nn.Parameter]:
        """The side networks' parameters, by module and name."""
        return {
            f"{index}.{name}": parameter
            for index, module in enumerate(self.method.trainable_modules())
            for name, parameter in module.named_parameters()
        }
