"""Submission of jobs by submitit: to Slurm, to processes on this machine, or to this process."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from benchmark.errors import BenchmarkError, UsageError
from benchmark.launch.jobs import Array, Job
from benchmark.launch.lease import Holder
from benchmark.launch.snapshot import Snapshot, take
from benchmark.launch.squeue import PREFIX
from benchmark.launch.submissions import Launcher, Submission, SubmissionFolder, SubmittedJob, code_folder, jobs_folder
from benchmark.launch.work import Work
from benchmark.machine import provenance
from benchmark.machine.process import inherited
from benchmark.records.store import Store

if TYPE_CHECKING:
    from benchmark.train.settings import Settings

SIGNAL_SECONDS = 120  # before a job's time is up: enough to finish a step and write a checkpoint
KILLED_TIMES = 5  # a job whose process is killed, for example for its memory, is queued again at most so many times
LOCAL_MINUTES = 60 * 24 * 30  # submitit wants a limit; on this machine none is needed

# Runs after srun in the batch script. A killed process cannot queue its job again, so the script does. It does not if
# the job itself is ending, as a cancelled job is.
TEARDOWN = """code=$?
job=${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}${{SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}
if [ $code -gt 128 ] && [ $code -lt 160 ] && [ "$(squeue --noheader --jobs=$job --format=%T)" = RUNNING ]; then
    killed={folder}/$job.killed
    echo "killed by signal $((code - 128)) on $(hostname)" >> "$killed"
    [ "$(wc -l < "$killed")" -le {times} ] && scontrol requeue $job
fi
exit $code"""


@dataclass(frozen=True)
class Resources:
    """The resources that every job requests."""

    device: str = "cpu"
    partition: str | None = None
    cpus: int = 1
    nodes: int = 1
    max_parallel: int | None = None
    requeues: int = 100
    slurm: dict[str, str] = field(default_factory=dict)  # options of sbatch from the command line

    @property
    def gpus(self) -> bool:
        """Return True if every process of a run has a GPU."""
        return self.device.startswith("cuda")


@dataclass
class Submitting:
    """A submission that is being made."""

    store: Store
    launcher: Launcher
    resources: Resources
    settings: Callable[..., Settings]  # the runs' settings; each job adds its device, ranks and stop flag
    command: Sequence[str]
    place: SubmissionFolder = field(init=False)
    submission: Submission = field(init=False)

    def __post_init__(self) -> None:
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
        self.place = SubmissionFolder(jobs_folder(self.store) / name)
        self.snapshot: Snapshot = take(code_folder(self.store))
        self.submission = Submission(
            name=name,
            launcher=self.launcher,
            submitted=time.time(),
            command=tuple(self.command),
            code=str(self.snapshot.folder),
            revision=provenance.revision(),
        )

    def to_slurm(self, arrays: Sequence[Array]) -> Submission:
        """Submit every array. Each array waits for those that it names in `after`.

        Raises:
            BenchmarkError: Slurm refused an array. Arrays that were submitted before it stay in the queue.
        """
        known: list[list[str]] = []
        for array in arrays:
            executor = _slurm_executor(self.place.folder, self._python(), self.resources)
            executor.update_parameters(**self._slurm_parameters(array, _dependency(array, known)))
            known.append(self._submit(executor, array.jobs))
        return self.submission

    def to_this_machine(self, jobs: Sequence[Job], devices: Sequence[int]) -> Submission:
        """Start a process for each job. Job n gets the n-th device, or none."""
        for number, job in enumerate(jobs):
            executor = submitit.LocalExecutor(
                self.place.folder, max_num_timeout=self.resources.requeues, python=self._python()
            )
            gpus = {"gpus_per_node": job.ranks, "visible_gpus": list(devices[number:][: job.ranks])} if devices else {}
            executor.update_parameters(
                timeout_min=LOCAL_MINUTES, tasks_per_node=job.ranks, stderr_to_stdout=True, **gpus
            )
            with _own_process_group(), _detached_output():
                self._submit(executor, [job])
        return self.submission

    def to_this_process(self, jobs: Sequence[Job]) -> list[dict[str, object]]:
        """Run the jobs now, through submitit's debugging executor. Return each job's result."""
        executor = submitit.DebugExecutor(self.place.folder)
        return [executor.submit(self._work(job)).result() for job in jobs]

    def _submit(self, executor: submitit.Executor, jobs: Sequence[Job]) -> list[str]:
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # the error below repeats sbatch's message, with a fix
                submitted = executor.submit_array([self._work(job) for job in jobs])
        except (FailedJobError, FailedSubmissionError) as error:
            raise self._refused(str(error)) from error
        local = self.launcher == "local"
        added = [
            SubmittedJob(
                id=one.job_id,
                runs=tuple(run.key for run in job.runs),
                process=Holder.process(int(one.job_id)) if local else None,
            )
            for one, job in zip(submitted, jobs, strict=True)
        ]
        self.submission = self.submission.model_copy(update={"jobs": (*self.submission.jobs, *added)})
        self.place.write(self.submission)
        return [job.id for job in added]

    def _refused(self, said: str) -> BenchmarkError:
        lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in said.strip().splitlines()]
        message = f"Slurm refused the jobs: {'; '.join(lines)}"
        if self.submission.jobs:
            message += f" ({len(self.submission.jobs)} jobs were submitted before and stay in the queue)"
        elif self.place.folder.is_dir():
            for path in self.place.folder.iterdir():
                path.unlink()
            self.place.folder.rmdir()
        fix = "change --partition, --gpus, --cpus, --minutes or --slurm KEY=VALUE, then run the command again"
        return UsageError(message, f"{fix}; `sinfo --summarize` names the partitions")

    def _work(self, job: Job) -> Work:
        return Work(
            runs=job.runs,
            needs=job.needs,
            store=self.store,
            device=self.resources.device,
            settings=self.settings,
            place=self.place.folder,
            submitted=self.submission.submitted,
            requeues=self.resources.requeues,
        )

    def _python(self) -> str:
        """Return the command that starts this interpreter with the snapshot's code."""
        environment = {**self.snapshot.environment(), **inherited()}
        return shlex.join(["env", *(f"{name}={value}" for name, value in environment.items()), sys.executable])

    def _slurm_parameters(self, array: Array, dependency: str | None) -> dict[str, object]:
        resources = self.resources
        tasks = -(-array.ranks // resources.nodes)
        several = ["--kill-on-bad-exit=1"] if array.ranks > 1 else []
        return {
            "job_name": f"{PREFIX}{self.submission.name}",
            "partition": resources.partition,
            "time": array.minutes,
            "nodes": resources.nodes,
            "ntasks_per_node": tasks,
            "cpus_per_task": resources.cpus,
            "gpus_per_node": tasks if resources.gpus else None,
            "signal_delay_s": min(SIGNAL_SECONDS, array.minutes * 60 // 4),
            "array_parallelism": resources.max_parallel or len(array.jobs),
            "dependency": dependency,
            "stderr_to_stdout": True,
            # Since Slurm 22.05 srun ignores the job's --cpus-per-task: srun must be given it too.
            "srun_args": [f"--cpus-per-task={resources.cpus}", *several],
            "teardown": TEARDOWN.format(folder=shlex.quote(str(self.place.folder)), times=KILLED_TIMES).splitlines(),
            "additional_parameters": {"requeue": True, **resources.slurm},
        }


def _slurm_executor(folder: Path, python: str, resources: Resources) -> submitit.SlurmExecutor:
    try:
        return submitit.SlurmExecutor(folder, max_num_timeout=resources.requeues, python=python)
    except RuntimeError as error:
        raise UsageError(
            "no Slurm on this machine: srun is not on the path",
            "run the command on a login node of the cluster, or use --launcher local",
        ) from error


def _dependency(array: Array, known: Sequence[Sequence[str]]) -> str | None:
    """Return an `afterany` dependency, or None.

    With `afterok`, students of a failed teacher would wait forever. With `afterany` they start and report the failure.
    """
    jobs = [known[a][0].split("_")[0] if j is None else known[a][j] for a, j in array.after] + list(array.after_jobs)
    return f"afterany:{':'.join(jobs)}" if jobs else None


@contextlib.contextmanager
def _own_process_group() -> Iterator[None]:
    """Start processes in a new process group. Ctrl-C in the terminal then ends this command, but not its jobs."""
    before = os.getpgid(0)
    changed = os.getpid() not in (before, os.getsid(0))
    if changed:
        os.setpgid(0, 0)
    try:
        yield
    finally:
        if changed:
            os.setpgid(0, before)


@contextlib.contextmanager
def _detached_output() -> Iterator[None]:
    """Start processes with their output discarded.

    They would otherwise keep this process's output open, and a pipe such as `run ... | tail` would wait for their end.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)
