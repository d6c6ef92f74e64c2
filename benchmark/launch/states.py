"""The state of every run, from files and the queue: record, lease, failure, checkpoint, job. Never imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmark.launch.lease import holder_of
from benchmark.launch.squeue import Queue, Queued
from benchmark.launch.submissions import Submission, SubmissionFolder, submissions
from benchmark.plan.experiment import Run
from benchmark.records.store import Record, RunPaths, Store, Unreadable, read_record

STATE_NAMES = ("done", "running", "queued", "stopped", "failed", "diverged", "skipped", "unreadable", "missing")


@dataclass(frozen=True)
class State:
    """A state's name, one of STATE_NAMES, and a reason, or an empty string."""

    name: str
    why: str = ""


@dataclass(frozen=True)
class Given:
    """The last job that a run was given to."""

    place: SubmissionFolder
    submission: Submission
    job: str
    queued: Queued | None  # None: the job has ended

    @property
    def log(self) -> str:
        """Format the path of the job's log for a terminal."""
        path = self.place.log(self.job)
        return f"log {path}" if path.exists() else f"no log yet, it will be {path}"


class States:
    """The states of runs. Submissions and queue are read once; a run's files are read when asked for."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @cached_property
    def _given(self) -> dict[str, Given]:
        known = submissions(self.store)
        queue = Queue.ask(known)
        found: dict[str, Given] = {}
        for place, submission in known:
            for job in submission.jobs:
                queued = queue.of(submission, job.id)
                for run in job.runs:
                    # With --launcher local several jobs have the same runs: prefer a job that has not ended.
                    if queued is not None or run not in found or found[run].submission is not submission:
                        found[run] = Given(place, submission, job.id, queued)
        return found

    def job_of(self, run: Run) -> str | None:
        """Find the unfinished job that will execute this run, or None. A job does not retry a run that failed in it."""
        given = self._given.get(run.key)
        if given is None or given.queued is None or _failed_since(given, self.store.paths(run)):
            return None
        return given.job

    def of(self, run: Run) -> State:
        """Return a run's state."""
        paths = self.store.paths(run)
        record = read_record(paths.record)
        if isinstance(record, Record):
            return State(record.status, record.reason)
        if isinstance(record, Unreadable):
            return State("unreadable", f"{record.path}: {record.reason}")
        given = self._given.get(run.key)
        holder = holder_of(paths.lease)
        if holder is not None:
            job = f", job {given.job}, {given.log}" if given is not None and given.queued is not None else ""
            return State("running", f"process {holder.pid} on {holder.host}{job}")
        if given is not None and given.queued is not None and not _failed_since(given, paths):
            return State("queued", f"job {given.job}: {given.queued.why or 'is running, this run comes later in it'}")
        if paths.failure.exists():
            log = f", {given.log}" if given is not None and _failed_since(given, paths) else ""
            return State("failed", f"{_why(paths.failure)} ({paths.failure}{log})")
        # The pattern matches the last checkpoint, the one before it, and one that is just being renamed.
        stopped = any(paths.work.glob(f"*{paths.checkpoint.name}"))
        if given is not None and not given.place.cancelled.exists():
            return State("failed", f"job {given.job} ended without a record: {_end_of(given)}, {given.log}")
        return State("stopped", "resumes from its checkpoint") if stopped else State("missing")


def _failed_since(given: Given, paths: RunPaths) -> bool:
    return paths.failure.exists() and paths.failure.stat().st_mtime > given.submission.submitted


def _end_of(given: Given) -> str:
    """Return the last known line about a job that has ended."""
    killed = given.place.killed(given.job)
    return _last_line(killed) or _last_line(given.place.log(given.job)) or "it left no output"


def _why(failure: Path) -> str:
    """Return why a run failed: the message of a project error (the line before its fix), or a traceback's last line."""
    text = failure.read_text(errors="replace").strip()
    return _last_line(failure) if text.startswith("Traceback") else text.partition("\n")[0]


def _last_line(path: Path) -> str:
    """Return the last non-empty line of a file; an empty string if there is none."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
