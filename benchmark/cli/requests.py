"""Name what a command is asked to do: one class a command, with a field for each argument of `cli/arguments.py`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from benchmark.paper.suite import ProfileName

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
Compile = Literal["auto", "always", "never"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A command's arguments, parsed."""


@dataclass(frozen=True, kw_only=True)
class Suites(Request):
    """The suites that are named; none means all."""

    suites: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Data(Request):
    """The folder of data sets."""

    data_dir: Path | None


@dataclass(frozen=True, kw_only=True)
class Places(Data):
    """The folders of data sets, records and working states."""

    results_dir: Path
    runs_dir: Path


@dataclass(frozen=True, kw_only=True)
class Selected(Suites, Places):
    """Suites, and the parts of them that are meant."""

    only: Sequence[str]
    variants: Sequence[str]
    seeds: int | None
    profile: ProfileName | None
    all_rows: bool


@dataclass(frozen=True, kw_only=True)
class Machine(Request):
    """What is asked of this machine."""

    device: str
    threads: int | None
    workers: int | None


@dataclass(frozen=True, kw_only=True)
class Run(Selected, Machine):
    """`run`."""

    compile: Compile
    pack: int | None
    checkpoint_seconds: float
    keep_side_networks: bool
    dry_run: bool
    yes: bool
    launcher: Literal["slurm", "local", "debug"] | None
    partition: str | None
    gpus: int | None
    ranks: int | None
    nodes: int
    cpus: int | None
    minutes: int | None
    batch_minutes: float
    max_parallel: int | None
    requeues: int
    slurm: Sequence[tuple[str, str]]
    wait: bool


@dataclass(frozen=True, kw_only=True)
class Plan(Selected):
    """`plan`."""

    device: str
    gpus: Sequence[int] | None
    json: bool


@dataclass(frozen=True, kw_only=True)
class Status(Selected):
    """`status`."""

    json: bool


@dataclass(frozen=True, kw_only=True)
class Cancel(Places):
    """`cancel`."""

    submissions: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Eval(Places, Machine):
    """`eval`."""

    model: str
    data: str
    weights: str | None
    sha256: str | None
    published: float | None
    json: bool


@dataclass(frozen=True, kw_only=True)
class Distill(Machine):
    """`distill`."""

    teacher: str
    student: str
    data: Path
    out: Path
    method: str
    recipe: str
    epochs: int | None
    batch: int | None
    lr: float | None
    image_size: int | None
    precision: Precision
    teacher_weights: str | None
    student_weights: str | None
    teacher_taps: str | None
    student_taps: str | None
    checkpoint_seconds: float


@dataclass(frozen=True, kw_only=True)
class Export(Places):
    """`export`."""

    run: str
    kind: Literal["student", "cityscapes"]
    partial: bool
    device: str
    out: Path | None


@dataclass(frozen=True, kw_only=True)
class Rerun(Data):
    """`rerun`."""

    records: Sequence[str]
    sample: int | None
    seed: int
    hours: float | None
    to: Path | None
    device: str | None
    threads: int | None
    json: bool


@dataclass(frozen=True, kw_only=True)
class Bridge(Data):
    """`bridge`."""

    older: Sequence[str]
    newer: str | None
    check: bool
    json: bool


@dataclass(frozen=True, kw_only=True)
class Collect(Places):
    """`collect`."""

    folder: Path
    contributor: str
    spot_check: int | None


@dataclass(frozen=True, kw_only=True)
class Report(Data):
    """`report`."""

    compare: Literal["paper", "reruns", "all"]
    suite: Sequence[str]
    results_dir: Sequence[Path] | None
    runs_dir: Path
    figure: str
    images: int | None
    profile: ProfileName | None
    device: str
    out: Path | None
    fail_on: str
    json: bool


@dataclass(frozen=True, kw_only=True)
class Verify(Data):
    """`verify`."""

    what: Literal["claims", "sources"] | None
    full: bool
    fresh: bool
    check: bool
    results_dir: Path | None
    runs_dir: Path
    json: bool


@dataclass(frozen=True, kw_only=True)
class Bench(Request):
    """`bench`."""

    methods: Sequence[str]
    predictors: bool
    pair: str
    batch: int
    rounds: int
    device: str
    threads: int | None
    speed: bool
    suite: Sequence[str]
    pack: int
    compile: Compile
    runs_dir: Path
    output: Path
    json: bool


@dataclass(frozen=True, kw_only=True)
class List(Suites, Data):
    """`list`."""

    what: str
    json: bool


@dataclass(frozen=True, kw_only=True)
class Show(Places):
    """`show`."""

    what: str
    name: str
    json: bool


@dataclass(frozen=True, kw_only=True)
class Doctor(Places):
    """`doctor`."""

    json: bool


_ALL: Sequence[type[Request]] = (
    *(Run, Plan, Status, Cancel, Eval, Distill, Export, Rerun),
    *(Bridge, Collect, Report, Verify, Bench, List, Show, Doctor),
)
REQUESTS: Mapping[str, type[Request]] = {request.__name__.lower(): request for request in _ALL}  # by command


def request_of(parsed: argparse.Namespace) -> Request:
    """Return the request of parsed arguments. The parser has checked each value and filled the defaults in."""
    kind = REQUESTS[parsed.command]
    return kind(**{field.name: getattr(parsed, field.name) for field in fields(kind)})
