"""The files of submissions: which job executes which runs. Never imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmark.launch.lease import Holder
from benchmark.machine.files import write_text
from benchmark.records.store import Store

Launcher = Literal["slurm", "local", "debug"]


class SubmittedJob(BaseModel):
    """A job and its runs."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(
        description="as squeue shows it: 17_3 is job 3 of array 17; the process's number with --launcher local"
    )
    runs: tuple[str, ...] = Field(description="identity and repetition, such as 0123456789abcdef-r0")
    process: Holder | None = Field(None, description="with --launcher local: the process that watches over the job")


class Submission(BaseModel):
    """One call of `run --launcher`. The file is written again after every array, so it never misses a job."""

    model_config = ConfigDict(frozen=True)

    name: str
    launcher: Launcher
    submitted: float = Field(description="seconds since 1970")
    command: tuple[str, ...] = Field(description="as it was typed")
    code: str = Field(description="the snapshot's folder")
    revision: dict[str, str | bool | None] = {}
    jobs: tuple[SubmittedJob, ...] = ()


@dataclass(frozen=True)
class SubmissionFolder:
    """A submission's folder, with its file and the logs and pickles of its jobs."""

    folder: Path

    @property
    def file(self) -> Path:
        """Return the path of the file that lists the submission's jobs."""
        return self.folder / "submission.json"

    @property
    def cancelled(self) -> Path:
        """Return the path of a file that exists once the submission is cancelled: its jobs are not queued again."""
        return self.folder / "cancelled"

    def log(self, job: str) -> Path:
        """Return the path of a job's output, errors included."""
        return self.folder / f"{job}_0_log.out"

    def result(self, job: str) -> Path:
        """Return the path of a file that exists once a job has ended by itself."""
        return self.folder / f"{job}_0_result.pkl"

    def killed(self, job: str) -> Path:
        """Return the path of a file with one line for each time the job's process was killed."""
        return self.folder / f"{job}.killed"

    def read(self) -> Submission | None:
        """Return the submission, or None if the file is missing or incomplete."""
        try:
            return Submission.model_validate_json(self.file.read_bytes())
        except (OSError, ValidationError):
            return None

    def write(self, submission: Submission) -> None:
        """Write the submission's file atomically."""
        write_text(self.file, submission.model_dump_json(indent=1, exclude_defaults=True) + "\n")


def jobs_folder(store: Store) -> Path:
    """Return the folder of submissions."""
    return store.runs / "jobs"


def code_folder(store: Store) -> Path:
    """Return the folder of code snapshots."""
    return store.runs / "code"


def submissions(store: Store) -> list[tuple[SubmissionFolder, Submission]]:
    """Return every submission of these runs, the oldest first."""
    folder = jobs_folder(store)
    places = [SubmissionFolder(path) for path in sorted(folder.iterdir())] if folder.is_dir() else []
    found = [(place, place.read()) for place in places]
    return sorted(
        ((place, submission) for place, submission in found if submission is not None),
        key=lambda pair: (pair[1].submitted, pair[1].name),
    )
