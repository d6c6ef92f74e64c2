"""The settings of where and how runs execute, their progress, and their stopping."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Literal

from benchmark.data.locate import DataSource
from benchmark.machine.ranks import ALONE, Ranks
from benchmark.paper.manifest import suites_sha256
from benchmark.plan.experiment import Plan, Run
from benchmark.records.facts import MOST_CELLS, Requested
from benchmark.records.store import Store

Compile = Literal["auto", "always", "never"]


CHECK_EVERY = 20  # steps between looks for losses that are not finite

HISTOGRAMS = 10  # epochs of a run whose histograms are kept


class Stopped(Exception):
    """The run was asked to stop, and its checkpoint is written."""


@dataclass(frozen=True)
class Progress:
    """The progress of a run."""

    run: Run
    epoch: int
    epochs: int
    step: int
    steps: int
    seconds_left: float
    images_per_second: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class Request:
    """Why runs are made, for their records."""

    command: tuple[str, ...] = ()  # as it was typed, without the program
    cells: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # ids that an experiment serves, by identity
    declared: Mapping[str, int] = field(default_factory=dict)  # repetitions, by identity
    suites_sha256: str = ""

    @classmethod
    def of(cls, plan: Plan, command: Sequence[str]) -> Request:
        """Return the request of a plan."""
        cells = {identity: tuple(cell.id for cell in found) for identity, found in plan.cells.items()}
        return cls(tuple(command), cells, plan.declared, suites_sha256())

    def of_run(self, run: Run) -> Requested:
        """Return what the record of a run says of it."""
        identity = run.experiment.identity
        cells = self.cells.get(identity, ())
        return Requested(
            command=list(self.command),
            cells=list(cells[:MOST_CELLS]),
            cells_in_all=len(cells),
            declared=self.declared.get(identity),
            suites_sha256=self.suites_sha256,
        )


@dataclass
class Settings:
    """The settings of where and how runs execute. Nothing here is part of an experiment."""

    store: Store = field(default_factory=Store)
    device: str = "cpu"
    threads: int | None = None
    compile: Compile = "auto"
    pack: int | None = 1  # runs that take turns in this process; None: as many as are fastest together
    request: Request = field(default_factory=Request)
    asked: dict[str, object] = field(default_factory=dict)  # the same as the user said them, `auto` for instance
    source: DataSource | None = None
    workers: int | None = None  # processes that decode image files; None: a share of the cores
    ranks: Ranks = ALONE
    data_dir: Path | None = None  # where the user says that data sets of files lie
    checkpoint_seconds: float = 60.0
    keep_side_networks: bool = True  # beside the student, for figures
    stop: Event = field(default_factory=Event)
    say: Callable[[str], None] = print
    progress: Callable[[Progress], None] = lambda progress: None
