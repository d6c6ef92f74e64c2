"""The settings of where and how runs execute, their progress, and their stopping."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Literal

from benchmark.data.locate import DataSource
from benchmark.machine.ranks import ALONE, Ranks
from benchmark.plan.experiment import Run
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


@dataclass
class Settings:
    """The settings of where and how runs execute. Nothing here is part of an experiment."""

    store: Store = field(default_factory=Store)
    device: str = "cpu"
    threads: int | None = None
    compile: Compile = "auto"
    pack: int | None = 1  # runs that take turns in this process; None: as many as are fastest together
    asked: dict[str, object] = field(default_factory=dict)  # the same as the user said them, `auto` for instance
    source: DataSource | None = None
    workers: int | None = None  # processes that decode image files; None: a share of the cores
    ranks: Ranks = ALONE
    data_dir: Path | None = None  # where the user says that data sets of files lie
    checkpoint_seconds: float = 60.0
    stop: Event = field(default_factory=Event)
    say: Callable[[str], None] = print
    progress: Callable[[Progress], None] = lambda progress: None
