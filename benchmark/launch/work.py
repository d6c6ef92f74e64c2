"""The execution of a job: it trains its runs as `run` would. A job that must stop writes a checkpoint and requeues."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import UsageError
from benchmark.launch.jobs import refuse_several
from benchmark.launch.squeue import ANSWER_SECONDS
from benchmark.launch.stopping import Flag, noting
from benchmark.launch.submissions import SubmissionFolder
from benchmark.machine.files import write_text
from benchmark.plan.experiment import Plan, Run
from benchmark.records.store import Store

if TYPE_CHECKING:
    from submitit.core.utils import DelayedSubmission

    from benchmark.launch.local import PlanOutcome
    from benchmark.machine.ranks import Ranks
    from benchmark.train.settings import Settings


@dataclass(frozen=True)
class Work:
    """A job. submitit pickles it, calls it where the job runs, and queues what `checkpoint` returns.

    submitit's own signal handler would queue the job again at once, in the middle of a step. Here a signal only sets a
    flag: the training finishes its step and writes its checkpoint, and only then submitit's handler is called.

    Time-outs and preemptions are treated alike, and `requeues` limits the number of both together. Clusters differ in
    the signal that they send, and submitit takes every signal to a job shorter than ten minutes for a time-out.
    """

    runs: tuple[Run, ...]
    needs: tuple[Run, ...]
    store: Store
    device: str
    settings: Callable[..., Settings]  # complete but for the store, the device here, the ranks and the stop flag
    place: Path
    submitted: float
    requeues: int

    def __call__(self) -> dict[str, object]:
        """Execute the runs. Return counts, and why runs failed."""
        again = _requeue_of_submitit()
        flag = Flag()
        with noting(flag, _time_signal(), signal.SIGTERM):
            outcome = self._execute(flag)
            for run, reason in outcome.failed:
                print(f"FAILED {run.label}: {reason}", flush=True)
            if outcome.stopped and again is not None and _leads() and self._may_requeue(flag):
                print(f"stopped: queued again ({self.requeues} times at most)", flush=True)
                again()
        return {
            "done": len(outcome.done) + len(outcome.already),
            "failed": [(run.label, reason) for run, reason in outcome.failed],
            "stopped": outcome.stopped,
        }

    def checkpoint(self) -> DelayedSubmission | None:
        """Return the job to queue again, with one requeue less; None ends it."""
        from submitit.core.utils import DelayedSubmission

        return DelayedSubmission(replace(self, requeues=self.requeues - 1)) if self.requeues > 0 else None

    def _execute(self, flag: Flag) -> PlanOutcome:
        from benchmark.machine.devices import local_device, pick_device
        from benchmark.machine.ranks import asked_for, joined

        device = pick_device(self.device)
        _introduce_processes()
        if (processes := asked_for()) > 1:  # checked before `joined`, where the processes wait for each other
            self._refuse(f"{processes} processes in this job (SLURM_NTASKS)")
        device = local_device(device)
        with joined(device) as ranks:
            return self._attended(flag, device, ranks)

    def _refuse(self, several: str) -> None:
        """Raise if a run of the job trains in one process only. The reason is written where `status` looks for it."""
        try:
            refuse_several((*self.needs, *self.runs), several, "submit again with --ranks 1 and no --slurm ntasks=...")
        except UsageError as error:
            for run in self.runs:
                write_text(self.store.paths(run).failure, str(error))
            raise

    def _attended(self, flag: Flag, device: str, ranks: Ranks) -> PlanOutcome:
        from benchmark.launch.local import Local
        from benchmark.launch.progress import reporting

        every = (*self.needs, *self.runs)
        # Only the leader looks at the files: they may change before another rank looks.
        broken = ranks.told([index for index, run in enumerate(every) if self._teacher_failed(run)])
        settings = self.settings(store=self.store, stop=flag, device=device, ranks=ranks)
        with reporting(settings, len(every) - len(broken)) as reported:
            wanted = [run for index, run in enumerate(every) if index not in broken]
            outcome = Local(reported).execute(Plan(runs=wanted))
        for run in (every[index] for index in broken):
            outcome.fail(run, f"its teacher failed: see {self.store.paths(run.teacher or run).failure}")
        return outcome

    def _teacher_failed(self, run: Run) -> bool:
        """Return True if the job that should train a run's teacher has tried and failed.

        It is not retried automatically.
        """
        needed = run.teacher or run
        if needed.key not in [run.key for run in self.needs] or self.store.read(needed) is not None:
            return False
        failure = self.store.paths(needed).failure
        return failure.exists() and failure.stat().st_mtime > self.submitted

    def _may_requeue(self, flag: Flag) -> bool:
        """Return True if the job was preempted or timed out, and False if a user cancelled it."""
        if SubmissionFolder(self.place).cancelled.exists():
            return False
        if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
            return flag.number == _time_signal()  # SIGTERM on this machine comes from a user, not from a scheduler
        return not _cancelled()


def _leads() -> bool:
    """Return True if this process acts for the job. Only one of several processes may queue the job again."""
    return os.environ.get("RANK", "0") == "0"


def _cancelled() -> bool:
    """Return True if Slurm ends the job although it has time left. A preempted job still counts as running."""
    from submitit import JobEnvironment

    try:
        command = ["squeue", "--noheader", f"--jobs={JobEnvironment().job_id}", "--format=%T %L"]
        state, left = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True
        ).stdout.split()
    except (OSError, subprocess.SubprocessError, ValueError):
        return False
    return state in ("COMPLETING", "CANCELLED") and left not in ("INVALID", "0:00")


def _time_signal() -> signal.Signals:
    from submitit.core.job_environment import JobEnvironment

    return signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]


def _requeue_of_submitit() -> Callable[[], None] | None:
    """Return submitit's handler, or None outside its jobs.

    The handler pickles what `checkpoint` returns, queues the job again, and ends the process.
    """
    number = _time_signal()
    handler = signal.getsignal(number)
    return (lambda: handler(number, None)) if callable(handler) else None


def _introduce_processes() -> None:
    """Set the variables of torch.distributed, so that several processes of a run find each other."""
    from submitit import JobEnvironment
    from submitit.helpers import TorchDistributedEnvironment

    try:
        several = JobEnvironment().num_tasks > 1
    except RuntimeError:  # --launcher debug runs outside any job
        return
    if several:
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
