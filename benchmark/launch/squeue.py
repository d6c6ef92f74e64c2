"""The submitted jobs that still wait or run. Slurm is asked once for all jobs; never imports torch."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field

from benchmark.launch.lease import Holder
from benchmark.launch.submissions import Submission, SubmissionFolder

ANSWER_SECONDS = 30.0  # time that a busy Slurm controller may take to answer
WAITING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
)
PREFIX = "benchmark-"


@dataclass(frozen=True)
class Queued:
    """A job that has not ended."""

    running: bool
    why: str = ""  # Slurm's reason why the job waits


@dataclass
class Queue:
    """The jobs that have not ended, by submission and job."""

    jobs: dict[tuple[str, str], Queued] = field(default_factory=dict)
    silent: str = ""  # why Slurm did not answer

    @classmethod
    def ask(cls, found: Iterable[tuple[SubmissionFolder, Submission]]) -> Queue:
        """Return the queue as it is now."""
        queue = cls()
        known = list(found)
        if any(submission.launcher == "slurm" for _, submission in known):
            queue._ask_slurm()
        for place, submission in known:
            for job in submission.jobs:
                if job.process is not None and _lives(job.process) and not place.result(job.id).exists():
                    queue.jobs[submission.name, job.id] = Queued(running=True)
        return queue

    def of(self, submission: Submission, job: str) -> Queued | None:
        """Return a job's state, or None once it has ended. If Slurm does not answer, its jobs count as queued."""
        if self.silent and submission.launcher == "slurm":
            return Queued(running=False, why=f"unknown, squeue does not answer: {self.silent}")
        return self.jobs.get((submission.name, job))

    def _ask_slurm(self) -> None:
        # Slurm may give a job's number to another job later: the name shows which jobs are this project's.
        command = ["squeue", "--noheader", "--array", "--me", "--format=%i|%j|%T|%r"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            self.silent = str(error)
            return
        if done.returncode:
            self.silent = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            return
        for line in done.stdout.splitlines():
            job, name, state, reason = line.split("|", 3)
            if name.startswith(PREFIX):
                waits = state in WAITING
                self.jobs[name.removeprefix(PREFIX), job] = Queued(not waits, reason if waits else "")


def _lives(process: Holder) -> bool:
    return process.host == socket.gethostname() and not process.is_gone(0.0)
