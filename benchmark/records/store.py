"""Run records: one small JSON file a run, with its curves beside it."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmark.machine.files import storage, write_text
from benchmark.machine.shipped import RESULTS
from benchmark.plan.experiment import Run
from benchmark.records.facts import (
    Asked,
    Attempt,
    Code,
    Effective,
    ExperimentSettings,
    Hardware,
    ImagesUsed,
    Requested,
    StudentCost,
    TeacherFound,
)

CONTRIBUTED = "from"  # the folder of results/ with records of others: from/NAME/PROFILE/...
FORMAT = 2  # of records; raised when a field changes meaning
Status = Literal["done", "diverged", "skipped"]


class Record(BaseModel):
    """The result of one run.

    `outcome` is equal wherever the run is repeated; the other fields describe the circumstances.
    """

    # Infinities are written as such: pydantic's default is null, which could not be read back as a number.
    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_inf_nan="constants")

    schema_version: int = Field(1, description="the format; files of format 1 do not say it")
    identity: str = Field(description="of the experiment")
    repetition: int
    status: Status
    reason: str = Field("", description="why a run is skipped, or where and in which term it diverged")
    experiment: ExperimentSettings = Field(description="every setting with its effective value")
    requested: Requested = Field(Requested(), description="why the run was made; format 1 does not say it")
    last: dict[str, float] = Field({}, description="metrics after the last epoch")
    best: dict[str, float] = Field({}, description="metrics of the epoch with the best main metric")
    best_epoch: int | None = Field(None, description="counted from 1")
    tracked: dict[str, float] = Field({}, description="loss terms and tracked quantities, mean of the last epoch")
    weights_sha256: str | None = Field(None, description="of the exported student's tensors")
    data: ImagesUsed = Field(ImagesUsed(), description="the images that were used: md5s or the generator's version")
    teacher: TeacherFound | None = Field(None, description="its weights' sha256 and its measured accuracy")
    weight_files: dict[str, dict[str, str]] = Field(
        {}, description="given weights, by whose they are: the file's name and the sha256 of its bytes"
    )
    asked: Asked = Field(Asked(), description="device, threads and precision as requested")
    effective: Effective = Field(Effective(), description="the same as they were used")
    seconds: float = Field(0.0, description="wall time over all attempts, up to the last checkpoint of each")
    images_per_second: float | None = Field(None, description="training images, over the training time")
    peak_memory_mb: float | None = Field(None, description="on a CPU: of the process so far, earlier runs included")
    interruptions: int = Field(0, description="how often the run was restarted")
    attempts: list[Attempt] = Field([], description="the starts of the run, the first and the last if there are many")
    student: StudentCost | None = Field(None, description="cost of the trained student; format 1 has none")
    seed: int | None = Field(None, description="global seed, of which all streams are derived; format 1 has none")
    code: Code = Field(Code(), description="commit, dirty flag and source hash")
    packages: dict[str, str] = {}
    hardware: Hardware = Hardware()
    finished: str = Field("", description="UTC, ISO 8601")

    def outcome(self) -> dict[str, object]:
        """Return the values that must be equal, bit for bit, when the run is repeated on the same kind of machine.

        The settings are not among them: the identity says that they agree, and a newer program lists more of them.
        """
        kept = ("identity", "repetition", "status", "reason", "last", "best", "best_epoch", "tracked", "weights_sha256")
        teacher = self.teacher.plain() if self.teacher is not None else None
        return {name: getattr(self, name) for name in kept} | {"data": self.data.plain(), "teacher": teacher}

    @property
    def label(self) -> str:
        """Format the run's name for a terminal."""
        described = self.experiment
        pair = f"{described.teacher.model}-{described.student}" if described.teacher else described.student
        return f"{described.data.name or '?'}/{pair}/{'+'.join(described.method)} #{self.repetition}"

    @property
    def profile(self) -> str:
        """Return the experiment's profile."""
        return self.experiment.profile

    @property
    def lacks(self) -> list[str]:
        """Return what a record of an earlier format does not say."""
        return list(_NOT_IN_FORMAT_1) if self.schema_version == 1 else []

    def text(self) -> str:
        """Return the record as its file has it. Values at their defaults are left out, except inside the parts."""
        whole = self.model_dump(mode="json", exclude_unset=True)
        defaults = type(self).model_fields
        kept = {name: value for name, value in whole.items() if value != defaults[name].default}
        return json.dumps(kept, indent=1, ensure_ascii=False) + "\n"


_NOT_IN_FORMAT_1 = (
    "the settings of its teacher's training",
    "revisions of methods",
    "the command and the cells that asked for it",
    "its attempts",
    "the student's cost",
    "the processor's instruction set",
)


@dataclass(frozen=True)
class Unreadable:
    """A record file that cannot be used, and the reason."""

    path: Path
    reason: str
    newer: bool = False  # a newer program wrote it: it must be left as it is


@dataclass(frozen=True)
class RunPaths:
    """The paths of all files of one run."""

    record: Path
    work: Path

    @property
    def curves(self) -> Path:
        """Return the path of the curves: one line for each epoch."""
        return self.record.with_suffix(".csv")

    @property
    def weights_beside(self) -> Path:
        """Return the path of weights that are kept with their record."""
        return self.record.with_suffix(".pt")

    @property
    def checkpoint(self) -> Path:
        """Return the path of an unfinished run's checkpoint."""
        return self.work / "checkpoint.pt"

    @property
    def student(self) -> Path:
        """Return the path of a finished run's exported student."""
        return self.work / "student.pt"

    @property
    def side_networks(self) -> Path:
        """Return the path of a finished run's side networks, from which figures of features and scores are drawn."""
        return self.work / "side_networks.pt"

    @property
    def failure(self) -> Path:
        """Return the path of the last attempt's traceback, which exists if that attempt failed."""
        return self.work / "failure.txt"

    @property
    def attempts(self) -> Path:
        """Return the path of the list of attempts: one line for each start of the run."""
        return self.work / "attempts.txt"

    @property
    def lease(self) -> Path:
        """Return the path of the lease, which names the process that works on the run."""
        return self.work / "lease.json"


@dataclass(frozen=True)
class Store:
    """The folders of records and working states. Smoke records stay with the working states, out of version control."""

    results: Path = Path("results")
    runs: Path = Path("runs")

    def paths(self, run: Run) -> RunPaths:
        """Return the paths of a run's files. The disk is not read."""
        experiment = run.experiment
        stem = f"{experiment.label}-{experiment.identity}"
        return RunPaths(
            record=self._records(experiment.profile) / stem / f"r{run.repetition}.json",
            work=self.runs / "work" / run.key,
        )

    def table(self, suite: str, profile: str) -> Path:
        """Return the path of a suite's table of results, beside its records."""
        return self._records(profile) / f"{suite}.md"

    def _records(self, profile: str) -> Path:
        results, smoke = self.folders
        return (smoke if profile == "smoke" else results) / profile

    def read(self, run: Run) -> Record | None:
        """Return the run's record, or None if it is missing or cannot be used."""
        found = read_record(self.paths(run).record)
        return found if isinstance(found, Record) and found.identity == run.experiment.identity else None

    def write(self, run: Run, record: Record, curves: str = "") -> None:
        """Write curves and record. Curves come first, so that a record that exists is complete."""
        paths = self.paths(run)
        if curves:
            write_text(paths.curves, curves)
        write_text(paths.record, record.text())

    def weights(self, run: Run) -> Path | None:
        """Return the path of the exported student, beside the record or in the working state; None if it is missing."""
        paths = self.paths(run)
        return next((path for path in (paths.weights_beside, paths.student) if path.is_file()), None)

    @property
    def folders(self) -> tuple[Path, Path]:
        """Return the two folders that hold records."""
        return self.results, self.runs / "records"

    def all(self) -> Iterator[Record | Unreadable]:
        """Yield every record of both folders."""
        for root in self.folders:
            if root.is_dir():
                for path in sorted(root.rglob("r*.json")):
                    found = read_record(path)
                    if found is not None:
                        yield found

    def prepare(self) -> None:
        """Raise now, not after hours, if a folder cannot be written."""
        for folder in (self.results, self.runs):
            with storage(folder):
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.NamedTemporaryFile(dir=folder, prefix=".write-probe-") as probe:
                    probe.write(b"\0" * 4096)


def usual_results() -> Path:
    """Return `results/` of the work folder, or while that has no record the committed ones that come along."""
    own = Store().results
    return own if any(own.rglob("r*.json")) else RESULTS


def read_record(path: Path) -> Record | Unreadable | None:
    """Return a record, the reason why it cannot be used, or None if there is no file."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        return Unreadable(path, f"cannot be read: {error.strerror}")
    if (newer := _newer(text)) is not None:
        fix = "update this program to use it"
        return Unreadable(path, f"its format {newer} is newer than this program's {FORMAT}: {fix}", newer=True)
    try:
        record = Record.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        return Unreadable(path, f"{where}: {first['msg']} (cut off or edited?)")
    if record.status == "done" and not all(math.isfinite(v) for v in (*record.last.values(), *record.best.values())):
        return Unreadable(path, "a metric is not a finite number")
    return record


def _newer(text: bytes) -> int | None:
    """Return the format of a record that a newer program wrote; None for any other text."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    version = found.get("schema_version", 1) if isinstance(found, dict) else 1
    return version if isinstance(version, int) and version > FORMAT else None


def curves_csv(rows: Iterable[Mapping[str, float]]) -> str:
    """Format curves as CSV: one row for each epoch, and a column for every quantity that any epoch has."""
    listed = list(rows)
    names = list(dict.fromkeys(name for row in listed for name in row))
    lines = [",".join(names)]
    lines += [",".join(f"{row[name]:.6g}" if name in row else "" for name in names) for row in listed]
    return "\n".join(lines) + "\n"
