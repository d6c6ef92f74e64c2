"""The results of a run: its curves so far, and the record made from them at the end."""

from __future__ import annotations

import datetime
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import torch
from torch import Tensor

from benchmark.errors import CannotServe
from benchmark.machine import provenance
from benchmark.machine.devices import hardware
from benchmark.machine.streams import GLOBAL_SEED
from benchmark.models import openmmlab
from benchmark.paper.tasks import TASKS
from benchmark.plan.experiment import Run
from benchmark.records.facts import (
    Asked,
    Code,
    Effective,
    ExperimentSettings,
    Hardware,
    ImagesUsed,
    Requested,
    TeacherFound,
)
from benchmark.records.store import FORMAT, Record, Status
from benchmark.train import attempts, checkpoint
from benchmark.train.student_cost import student_cost

if TYPE_CHECKING:
    from benchmark.train.first_use import WeightFiles
    from benchmark.train.settings import Settings


@dataclass
class Curves:
    """A run's curves: one row for each evaluation, and the best evaluation."""

    rows: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)
    best_row: int | None = None  # counted from 1

    def add(self, row: dict[str, float], metrics: Mapping[str, float], main: str) -> None:
        """Add one evaluation. `main` names the metric that decides which evaluation is best."""
        self.rows.append(row | {f"test.{name}": value for name, value in metrics.items()})
        if not self.best or metrics[main] > self.best[main]:
            self.best, self.best_row = dict(metrics), len(self.rows)

    def last(self, prefix: str) -> dict[str, float]:
        """Return the latest row's values whose names begin with a prefix. The prefix is removed from the names."""
        row = self.rows[-1] if self.rows else {}
        return {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}


class Circumstances(TypedDict):
    """Fields of every record: the experiment, the code and the machine."""

    schema_version: int
    identity: str
    repetition: int
    experiment: ExperimentSettings
    requested: Requested
    seed: int
    code: Code
    packages: dict[str, str]
    hardware: Hardware
    finished: str


class AskedAndFound(Circumstances):
    """Fields of every record with numbers."""

    asked: Asked


def record_of(
    run: Run,
    settings: Settings,
    curves: Curves,
    *,
    status: Status,
    reason: str,
    weights: Mapping[str, Tensor],
    attempts_file: Path,
    data: Mapping[str, object],
    teacher: dict[str, object] | None,
    weight_files: WeightFiles,
    effective: dict[str, object],
    seconds: float,
    images_per_second: float | None,
) -> Record:
    """Build the record of a training that ended, with success or not."""
    return Record(
        status=status,
        reason=reason,
        last=rounded(curves.last("test.")),
        best=rounded(curves.best),
        best_epoch=curves.best_row,
        tracked=rounded({name: value for name, value in curves.last("train.").items() if ".bin" not in name}),
        weights_sha256=checkpoint.tensors_sha256(weights) if status == "done" else None,
        peak_memory_mb=_peak_memory(torch.device(settings.device)),
        interruptions=max(0, attempts.count(attempts_file) - 1),
        attempts=attempts.recorded(attempts_file, seconds),
        student=student_cost(run.experiment, classes if isinstance(classes := data.get("classes"), int) else None),
        data=ImagesUsed.model_validate(dict(data)),
        teacher=TeacherFound.model_validate(teacher) if teacher is not None else None,
        weight_files={whose: dict(file) for whose, file in weight_files.items()},
        effective=Effective.model_validate(effective),
        seconds=seconds,
        images_per_second=images_per_second,
        **asked_and_found(run, settings),
    )


def skipped(run: Run, reason: CannotServe, settings: Settings) -> Record:
    """Write and return the record of a method that cannot serve a pair."""
    record = Record(status="skipped", reason=reason.message, **circumstances(run, settings))
    if settings.ranks.leads:
        settings.store.write(run, record)
    return record


def asked_and_found(run: Run, settings: Settings) -> AskedAndFound:
    """Return fields of every record with numbers: the experiment, the code, the machine, and the user's settings."""
    asked: dict[str, object] = {"device": settings.device, "threads": settings.threads, "compile": settings.compile}
    asked |= {"pack": settings.pack or "auto"} | settings.asked | {"precision": run.experiment.precision}
    return {**circumstances(run, settings), "asked": Asked.model_validate(asked)}


def circumstances(run: Run, settings: Settings) -> Circumstances:
    """Return fields of every record: the experiment, the code and the machine."""
    optional = openmmlab.versions() if TASKS[run.experiment.task].openmmlab else {}
    build = {"torch build": str(torch.version.git_version)[:12]}
    if torch.cuda.is_available():
        cudnn: int = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        build |= {"cuda": str(torch.version.cuda), "cudnn": str(cudnn)}
    return {
        "schema_version": FORMAT,
        "identity": run.experiment.identity,
        "repetition": run.repetition,
        "experiment": ExperimentSettings.of(run.experiment),
        "requested": settings.request.of_run(run),
        "seed": GLOBAL_SEED,
        "code": Code.model_validate(provenance.revision()),
        "packages": {**provenance.packages(), **build, **optional},
        "hardware": Hardware.model_validate(hardware(settings.device)),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _peak_memory(device: torch.device) -> float:
    """Return the peak memory in MiB: the device's on a GPU, else this process's."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale, 1)


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Return values rounded to the digits that records keep."""
    return {name: round(value, 6) for name, value in values.items()}
