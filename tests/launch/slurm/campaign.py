"""Faults that are put into jobs of a real Slurm while they train, and checks of what must exist afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cluster import Cluster
from forked import call
from small import command, environment, store_in

from benchmark.launch.lease import holder_of
from benchmark.launch.submissions import Submission, submissions
from benchmark.plan.experiment import Run

SECONDS = 480.0  # what anything here may take


def until(holds: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    """Wait until a condition holds; fail after a time limit."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s until {what}"
        time.sleep(0.05)


@dataclass
class Laboratory:
    """A folder to submit from, the cluster, and the faults so far."""

    folder: Path
    cluster: Cluster
    faults: list[str] = field(default_factory=list)
    _watched: dict[str, Run] = field(default_factory=dict)
    _asleep: dict[str, int] = field(default_factory=dict)  # processes by run
    _watcher: threading.Thread | None = None

    def call(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the project's command line in the folder: in a fork, or in a new process if the code is another copy."""
        more["SLURM_CONF"] = str(self.cluster.configuration)
        if "PYTHONPATH" not in more:
            return call(*arguments, seconds=SECONDS, folder=self.folder, **more)
        return subprocess.run(
            command(*arguments),
            capture_output=True,
            text=True,
            env=environment(**more),
            cwd=self.folder,
            timeout=SECONDS,
        )

    def submit(self, suite: Path, *more: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Submit a suite by `run --launcher slurm`, with limits for tiny runs."""
        given = ("--device", "cpu", "--threads", "1", "--checkpoint-seconds", "0.3")
        return self.call("run", str(suite), "--launcher", "slurm", *given, *more, **environ)

    def submissions(self) -> list[Submission]:
        """Return the submissions from the folder."""
        return [submission for _, submission in submissions(store_in(self.folder))]

    def done(self, runs: list[Run]) -> bool:
        """Return True if every run has a record."""
        return all(store_in(self.folder).read(run) is not None for run in runs)

    def wait_for(self, runs: list[Run]) -> None:
        """Wait until every run has a record; if that takes too long, fail with the logs."""
        try:
            until(lambda: self.done(runs), f"{len(runs)} runs are done")
        except AssertionError as error:
            logs = [path.read_text()[-1500:] for path in sorted(self.folder.glob("runs/jobs/*/*.out"))]
            queue = self.cluster.control("squeue", "--array").stdout
            raise AssertionError("\n".join([str(error), queue, *logs])) from error

    def frozen(self, run: Run) -> int:
        """Find the process that trains a run, and stop it by SIGSTOP in the middle of an epoch."""
        self.watch([run])
        until(lambda: run.key in self._asleep, f"{run.label} has a checkpoint")
        assert store_in(self.folder).read(run) is None, f"{run.label} was too fast: give it more epochs"
        return self._asleep.pop(run.key)

    def watch(self, runs: list[Run]) -> None:
        """Stop each of these runs once, in the middle of an epoch."""
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._put_to_sleep, daemon=True)
            self._watcher.start()
        self._watched.update({run.key: run for run in runs if run.key not in self._asleep})

    def _put_to_sleep(self) -> None:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            for key, run in list(self._watched.items()):
                paths = store_in(self.folder).paths(run)
                holder = holder_of(paths.lease)
                if paths.checkpoint.exists() and holder is not None:
                    os.kill(holder.pid, signal.SIGSTOP)
                    self._asleep[key] = holder.pid
                    del self._watched[key]
            time.sleep(0.02)

    def job_of(self, pid: int) -> str:
        """Return the Slurm job of a process, as Slurm's commands name it."""
        environ = dict(
            pair.split("=", 1) for pair in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in pair
        )
        if "SLURM_ARRAY_JOB_ID" in environ:
            return f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
        return environ["SLURM_JOB_ID"]

    def log_of(self, job: str) -> str:
        """Return the output of a job, over all its starts."""
        (path,) = self.folder.glob(f"runs/jobs/*/{job}_0_log.out")
        return path.read_text()

    def signalled(self, run: Run, name: str) -> str:
        """Fault: a signal sent through Slurm, as a site's preemption does."""
        pid = self.frozen(run)
        job = self.job_of(pid)
        assert self.cluster.control("scancel", f"--signal={name}", job).returncode == 0
        until(lambda: _pending(pid, signal.Signals[f"SIG{name}"]), f"{name} has reached {run.label}")
        os.kill(pid, signal.SIGCONT)
        self.faults.append(f"SIG{name} to {run.label}")
        return job

    def timed_out(self, run: Run, pid: int) -> str:
        """Fault: Slurm's warning that the time is nearly up, sent to a frozen process."""
        job = self.job_of(pid)
        until(lambda: not _lives(pid), f"the time of {run.label} is up")  # Slurm sends SIGCONT before its warning
        self.faults.append(f"time-out of {run.label}")
        self.cluster.control("scontrol", "update", f"JobId={job}", "TimeLimit=15")  # once is enough on a slow machine
        return job

    def preempted(self, run: Run) -> str:
        """Fault: a job of a better partition takes the node. Slurm sends SIGTERM, and SIGKILL 20 seconds later."""
        pid = self.frozen(run)
        job = self.job_of(pid)
        urgent = ("sbatch", "--wait", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=true")
        assert self.cluster.control(*urgent).returncode == 0
        assert not _lives(pid)  # Slurm has sent SIGCONT first
        self.faults.append(f"preemption of {run.label}")
        return job

    def killed(self, run: Run) -> str:
        """Fault: kill -9 of the worker."""
        pid = self.frozen(run)
        job = self.job_of(pid)
        os.kill(pid, signal.SIGKILL)
        until(lambda: not _lives(pid), "the worker is dead")
        self.faults.append(f"kill -9 of {run.label}")
        return job

    def node_restarted(self, run: Run) -> None:
        """Fault: slurmd ends and comes back while a job trains."""
        pid = self.frozen(run)
        self.cluster.stop_node()
        os.kill(pid, signal.SIGCONT)
        time.sleep(1)
        self.cluster.start_node()
        self.faults.append(f"slurmd stopped and started under {run.label}")

    def node_lost(self, run: Run) -> str:
        """Fault: everything on the node dies at once, slurmd, its step managers and the worker; then it boots."""
        pid = self.frozen(run)
        job = self.job_of(pid)
        self.cluster.crash_node()
        until(lambda: not _lives(pid), "the worker is dead")
        self.cluster.start_node()
        self.faults.append(f"node lost under {run.label}")
        return job


def _pending(pid: int, number: int) -> bool:
    """Return True if a signal is pending for a stopped process."""
    status = Path(f"/proc/{pid}/status").read_text()
    masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def lost(runs: list[Run], folder: Path, undisturbed: Path) -> list[str]:
    """List the runs without a record, with several records, or with another outcome than the undisturbed run's."""
    bad = []
    for run in runs:
        found, wanted = store_in(folder).read(run), store_in(undisturbed).read(run)
        assert wanted is not None, f"the undisturbed {run.label} has no record"
        if found is None or found.outcome() != wanted.outcome() or found.weights_sha256 is None:
            bad.append(run.label)
    return bad


def half_written(folder: Path) -> list[Path]:
    """List the files that an atomic writer, a lease or submitit leaves if it is killed."""
    names = ("*.partial", "*.save_tmp", "lease.json", "*.unreadable-*", "*checkpoint.pt")
    return [path for name in names for root in ("runs", "results") for path in (folder / root).rglob(name)]
