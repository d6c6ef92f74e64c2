"""A moment whose random draws are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from methods.base import Moment


@dataclass(frozen=True)
class ScriptedMoment(Moment):
    """Hands out given draws in the order in which they are asked for, each exactly once."""

    normals: list[Tensor] = field(default_factory=list)
    drawn_integers: list[Tensor] = field(default_factory=list)

    def normal_like(self, tensor: Tensor) -> Tensor:
        draw = self.normals.pop(0)
        assert draw.shape == tensor.shape
        return draw

    def integers(self, high: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
        draw = self.drawn_integers.pop(0)
        assert draw.shape == shape
        assert int(draw.max()) < high
        return draw

    def is_used_up(self) -> bool:
        return not self.normals and not self.drawn_integers


def scripted(normals: Sequence[Tensor] = (), integers: Sequence[Tensor] = ()) -> ScriptedMoment:
    late = (torch.tensor(100.0), torch.tensor(0.5))
    return ScriptedMoment(*late, torch.Generator(), normals=list(normals), drawn_integers=list(integers))
