"""Sums over an epoch, kept on the device: nothing here makes the host wait for it until it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired, TypedDict

import torch
from torch import Tensor

from benchmark.machine.ranks import Ranks

HISTOGRAM_BINS = 20  # over [0, 1]: the tracked vectors are mixing weights


class MeterState(TypedDict):
    """The sums of an epoch so far, as a checkpoint holds them."""

    names: list[str]
    sums: Tensor
    first_bad: Tensor
    count: int
    histograms: dict[str, Tensor]
    clips: NotRequired[Tensor]  # checkpoints from before they were counted have none


class Meter:
    """The means of every loss term and tracked quantity, histograms of the vectors, and the first non-finite step.

    Where gradients are clipped, also the share of steps in which they were.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.number = torch.zeros((), device=device, dtype=torch.int64)  # of the step that is added next
        self._names: list[str] = []
        self._sums = torch.zeros(0, device=device, dtype=torch.float64)
        self._first_bad = torch.zeros(0, device=device, dtype=torch.int64)
        self._count = torch.zeros((), device=device, dtype=torch.int64)
        self._histograms: dict[str, Tensor] = {}
        self._clips = torch.zeros(2, device=device, dtype=torch.int64)  # steps that were clipped, and all that could be

    def reset(self) -> None:
        """Set all sums to zero in place, because a captured step keeps adding to the same tensors."""
        for tensor in (self._sums, self._count, self._clips, *self._histograms.values()):
            tensor.zero_()
        self._first_bad.fill_(-1)

    def add(self, values: Mapping[str, Tensor], tracked: Mapping[str, Tensor]) -> None:
        """Add one step's terms (scalars) and tracked quantities (scalars or vectors)."""
        if not self._names:
            self._names = [*values, *tracked]
            self._sums = torch.zeros(len(self._names), device=self._device, dtype=torch.float64)
            self._first_bad = torch.full((len(self._names),), -1, device=self._device)
        means = [value.detach().double().mean() for value in (*values.values(), *tracked.values())]
        row = torch.stack(means)
        self._sums += row
        self._count += 1
        broken = ~torch.isfinite(row) & (self._first_bad < 0)
        self._first_bad.copy_(torch.where(broken, self.number, self._first_bad))
        for name, value in tracked.items():
            if value.ndim == 1 and value.numel() > 1:
                bins = (value.detach().float() * HISTOGRAM_BINS).long().clamp(0, HISTOGRAM_BINS - 1)
                # Not one_hot, which reads the smallest and the largest on some devices.
                counts = (bins[:, None] == torch.arange(HISTOGRAM_BINS, device=bins.device)).sum(0)
                self._histograms.setdefault(name, torch.zeros_like(counts)).add_(counts)

    def add_clip(self, clipped: Tensor) -> None:
        """Count a step of a recipe that clips gradients: one boolean, True where their norm was over the limit."""
        self._clips[0].add_(clipped)
        self._clips[1].add_(1)

    def first_broken(self) -> tuple[int, str] | None:
        """Return the first step with a value that is not finite and that value's name, or None.

        Waits for the device.
        """
        steps = self._first_bad.tolist()
        broken = [(step, index) for index, step in enumerate(steps) if step >= 0]
        if not broken:
            return None
        step, index = min(broken)
        return step, self._names[index]

    def means(self) -> dict[str, float]:
        """Return the mean over the epoch so far, by name."""
        return dict(zip(self._names, (self._sums / self._count.clamp(min=1)).tolist(), strict=True))

    def histograms(self) -> dict[str, float]:
        """Return the share of each histogram bin, by names like `<name>.bin07`."""
        found: dict[str, float] = {}
        for name, counts in self._histograms.items():
            shares = (counts.double() / counts.sum()).tolist()
            found |= {f"{name}.bin{index:02d}": share for index, share in enumerate(shares)}
        return found

    def clipped(self) -> dict[str, float]:
        """Return the share of clipped steps as `clipped`, nothing where the recipe does not clip."""
        clipped, steps = self._clips.tolist()
        return {"clipped": clipped / steps} if steps else {}

    def over(self, ranks: Ranks) -> Meter:
        """Return a meter with the sums of all ranks' meters, on every rank."""
        if ranks.world == 1:
            return self
        whole = Meter(self._device)
        for state in ranks.all(self.state()):
            part = Meter(self._device)
            part.load(state)
            whole._join(part)
        return whole

    def _join(self, other: Meter) -> None:
        if not self._names:
            self.load(other.state())
            return
        self._sums = self._sums + other._sums
        self._count += other._count
        self._clips += other._clips
        for name, counts in other._histograms.items():
            self._histograms[name] = self._histograms[name] + counts

    def state(self) -> MeterState:
        """Return the sums, for a checkpoint in mid-epoch."""
        return {
            "names": self._names,
            "sums": self._sums,
            "first_bad": self._first_bad,
            "count": int(self._count),
            "histograms": self._histograms,
            "clips": self._clips,
        }

    def load(self, state: MeterState) -> None:
        """Load the sums from a checkpoint, into the existing tensors if the shapes agree."""
        if not state["names"]:  # saved before its first step
            self.reset()
            return
        self._names = list(state["names"])
        self._sums = self._held(self._sums, state["sums"])
        self._first_bad = self._held(self._first_bad, state["first_bad"])
        self._count.fill_(state["count"])
        self._clips.copy_(state.get("clips", torch.zeros_like(self._clips)))
        for name in self._histograms.keys() - state["histograms"].keys():
            self._histograms[name].zero_()
        for name, counts in state["histograms"].items():
            self._histograms[name] = self._held(self._histograms.get(name), counts)

    def _held(self, mine: Tensor | None, given: Tensor) -> Tensor:
        if mine is None or mine.shape != given.shape:
            return given.to(self._device, copy=True)
        return mine.copy_(given)
