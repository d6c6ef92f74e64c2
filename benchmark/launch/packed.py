"""Several runs in one process that take turns step by step: networks this small leave most of a GPU idle.

On a GPU each run has a stream of its own, and a turn only queues work. A run owns its random streams and its state, so
the turns of others change none of its numbers.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmark.plan.experiment import Run

# A run as a generator: it yields after each training step and returns True, or False if it must be started again.
Advance = Generator[None, None, bool]
WARM_UP, PROBE = 3, 10  # steps before and during a measurement of `auto`
WORTH = 1.03  # `auto` keeps one more run only if the total throughput grows by this factor
SPARE = 0.1  # share of the memory that `auto` leaves free


@dataclass(eq=False)
class Turn:
    """A run in progress."""

    run: Run
    work: Advance
    stream: Callable[[], AbstractContextManager[object]]
    alone: float = 0.0  # seconds of a step while no other run computes, measured by `auto`


class Turns:
    """The runs in progress in this process. `pack` is the number that take turns; None finds the fastest number."""

    def __init__(self, pack: int | None, device: torch.device, say: Callable[[str], None]) -> None:
        self.device, self.say = device, say
        self.width = pack or 1
        self.settled = pack is not None
        self._running: list[Turn] = []
        self._again: list[Run] = []
        self._best = 1.0
        self._need = 0  # bytes of memory that the largest run so far needs

    def __len__(self) -> int:
        return len(self._running)

    @property
    def runs(self) -> tuple[Run, ...]:
        """Return the runs in progress."""
        return tuple(turn.run for turn in self._running)

    @property
    def room(self) -> bool:
        """Return True if another run may start."""
        if len(self) < self.width:
            return True
        return not self.settled and len(self) == self.width and self._fits()

    def add(self, run: Run, work: Advance) -> None:
        """Start a run: build it and train its first step. Errors raised while building are passed on."""
        free = free_memory(self.device)[0]
        turn = Turn(run, work, _stream(self.device))
        self._running.append(turn)
        try:
            self._advance(turn)
        except BaseException:
            self._drop(turn)
            raise
        if not self.settled and turn in self._running:
            self._measure(turn)
            self._need = max(self._need, free - free_memory(self.device)[0])

    def advance(self) -> list[Run]:
        """Train a step of each run. Return the runs that ended unfinished and should be started again."""
        for turn in self._running[: self.width]:
            self._advance(turn)
        again, self._again = self._again, []
        return again

    def shrink(self) -> None:
        """Reduce the number of runs that take turns by one, because memory was short."""
        self.width, self.settled = max(1, len(self) - 1), True

    def close(self) -> None:
        """End all runs in the middle. Closing a run's generator releases its lease."""
        for turn in self._running:
            turn.work.close()
        self._running = []

    def _advance(self, turn: Turn) -> bool:
        """Train one step. Return True if more steps follow."""
        try:
            with turn.stream():
                next(turn.work)
        except StopIteration as end:
            self._drop(turn)
            if not end.value:
                self._again.append(turn.run)
            return False
        return True

    def _drop(self, turn: Turn) -> None:
        if turn in self._running:
            self._running.remove(turn)

    def _fits(self) -> bool:
        free, total = free_memory(self.device)
        return free - self._need > SPARE * total

    def _measure(self, newest: Turn) -> None:
        """Measure how much faster all runs are in turns than one after the other.

        If the newest run adds too little, it waits: `width` stays below the number of runs.
        """
        newest.alone = self._seconds([newest])
        together = list(self._running)
        if len(together) == 1 or newest not in together:
            return
        seconds = self._seconds(together)
        if any(turn not in self._running for turn in together):
            return  # a run ended during the measurement, which therefore means nothing
        gain = sum(turn.alone for turn in together) / seconds
        if gain > WORTH * self._best:
            self._best, self.width = gain, len(together)
            return
        self.settled = True
        self.say(
            f"packing: {self.width} runs at a time train {self._best:.2f} times as fast as one after the other; "
            f"{len(together)} runs would train {gain:.2f} times as fast"
        )

    def _seconds(self, turns: list[Turn]) -> float:
        for _ in range(WARM_UP):
            for turn in turns:
                if turn in self._running:
                    self._advance(turn)
        self._wait()
        began = time.perf_counter()
        for _ in range(PROBE):
            for turn in turns:
                if turn in self._running:
                    self._advance(turn)
        self._wait()
        return (time.perf_counter() - began) / PROBE

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _stream(device: torch.device) -> Callable[[], AbstractContextManager[object]]:
    if device.type != "cuda":
        return contextlib.nullcontext
    torch.cuda.synchronize(device)  # the data set was copied to the device on another stream
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return lambda: torch.cuda.stream(stream)


def free_memory(device: torch.device) -> tuple[int, int]:
    """Return free and total bytes of a device. If a CPU does not report them, return a terabyte for both."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + cached, total
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return 1024 * int(lines["MemAvailable"].split()[0]), 1024 * int(lines["MemTotal"].split()[0])
    except (OSError, KeyError, ValueError):
        return 10**12, 10**12
