"""`cancel`: end jobs that this project submitted, and no others. Never imports torch."""

from __future__ import annotations

import os
import signal

from benchmark.cli import requests
from benchmark.cli.planning import store_of
from benchmark.errors import BenchmarkError, UsageError, nearest
from benchmark.launch.squeue import Queue
from benchmark.launch.submissions import Submission, SubmissionFolder, submissions
from benchmark.machine.files import write_text


def main(arguments: requests.Cancel) -> int:
    """Cancel the named submissions, or all of them. Runs keep their checkpoints. Return the exit code."""
    found = submissions(store_of(arguments))
    names = {submission.name for _, submission in found}
    for name in arguments.submissions:
        if name not in names:
            elsewhere = "--runs-dir DIR, the folder that the jobs were submitted with; this one has no submissions"
            raise UsageError(f"there is no submission {name!r}", nearest(name, names) if names else elsewhere)
    chosen = [pair for pair in found if not arguments.submissions or pair[1].name in arguments.submissions]
    queue = Queue.ask(chosen)
    if queue.silent:
        raise BenchmarkError(f"Slurm does not answer: {queue.silent}", "try again; nothing was cancelled")
    cancelled = 0
    for place, submission in chosen:
        alive = [job.id for job in submission.jobs if queue.of(submission, job.id) is not None]
        if alive:
            _cancel(place, submission, alive)
            cancelled += len(alive)
            print(f"{submission.name}: {len(alive)} jobs cancelled; their runs keep their checkpoints")
    if not cancelled:
        print("nothing to cancel: no submitted job is queued or running")
    return 0


def _cancel(place: SubmissionFolder, submission: Submission, alive: list[str]) -> None:
    write_text(place.cancelled, "")  # first: a job that stops now must not queue itself again
    if submission.launcher == "local":
        for job in submission.jobs:
            if job.id in alive and job.process is not None:
                os.kill(job.process.pid, signal.SIGTERM)
        return
    from submitit import SlurmJob

    for number in dict.fromkeys(job.split("_")[0] for job in alive):
        SlurmJob(place.folder, number).cancel(check=False)
