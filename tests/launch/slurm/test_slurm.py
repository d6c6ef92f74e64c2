"""Jobs on a real Slurm: after every kind of fault each run has exactly one record, identical bit for bit."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from campaign import SECONDS, Laboratory, half_written, lost, until
from forked import Forked
from small import ROOT, plan_of, record_of, runs_of, store_in, write_suite

from benchmark.machine import provenance

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

EACH_ITS_JOB = ("--batch-minutes", "0.0001")
TRAINED = {"epochs": 16, "train": 64, "test": 20, "batch": 64, "repetitions": 2}  # long enough to be caught at it
ROWS = {"KD": {"method": "kd"}, "DKD": {"method": "dkd"}}


class Undisturbed:
    """Run the same suites in one process, in another folder, while the tests wait for Slurm."""

    def __init__(self, folder: Path, *suites: Path) -> None:
        folder.mkdir()
        self.folder, self.log = folder, folder / "log.txt"
        given = ["--threads", "1", "--device", "cpu"]
        self._process = Forked(["run", *map(str, suites), *given], self.log, folder=folder)

    def done(self) -> Path:
        """Return the folder after the process has ended without an error."""
        assert self._process.wait(SECONDS) == 0, self.log.read_text()
        return self.folder


def test_every_fault_is_survived_bit_for_bit(
    laboratory: Laboratory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = write_suite(laboratory.folder / "faults.yaml", ROWS, profile=TRAINED)
    runs = plan_of(suite).runs
    rows = {run.experiment.identity: row for row, run in runs_of(suite).items()}
    named = {(rows[run.experiment.identity], run.repetition): run for run in runs}
    teacher = named["teacher", 0]
    # A job of one minute: submitit takes whatever signal it gets for a time-out.
    short = write_suite(
        laboratory.folder / "short.yaml", {"MSE": {"method": "mse"}}, profile=TRAINED | {"repetitions": 1}
    )
    timed_out = runs_of(short)["MSE"]
    laboratory.watch([*runs, timed_out])
    submitted = laboratory.submit(suite, *EACH_ITS_JOB)
    assert submitted.returncode == 0, submitted.stderr
    assert laboratory.submit(short, "--minutes", "1").returncode == 0
    reference = Undisturbed(tmp_path / "undisturbed", suite, short)
    jobs = {"killed": laboratory.killed(teacher), "preempted": laboratory.preempted(teacher)}
    asleep = laboratory.frozen(timed_out)
    jobs["USR2"] = laboratory.signalled(named["KD", 0], "USR2")
    jobs["TERM"] = laboratory.signalled(named["KD", 1], "TERM")
    laboratory.node_restarted(named["DKD", 0])
    jobs["time-out"] = laboratory.timed_out(timed_out, asleep)
    jobs["node lost"] = laboratory.node_lost(named["DKD", 1])
    runs = [*runs, timed_out]
    laboratory.wait_for(runs)
    until(lambda: not laboratory.cluster.queue(), "the queue is empty")
    for fault in ("preempted", "time-out", "USR2", "TERM"):
        assert "stopped: queued again" in laboratory.log_of(jobs[fault]), fault
    missing = lost(runs, laboratory.folder, reference.done())
    injected, survived = len(laboratory.faults), len(laboratory.faults) - len(missing)
    with capsys.disabled():
        print(f"\nfaults injected {injected}, survived {survived}, records lost {len(missing)} of {len(runs)}")
        print("  " + "\n  ".join(laboratory.faults))
    assert not missing
    assert not half_written(laboratory.folder)


def test_edits_after_the_submission_do_not_reach_the_jobs_and_the_record_names_the_revision(
    laboratory: Laboratory, tmp_path: Path
) -> None:
    """Submit from a copy of the project that is broken as soon as the jobs are submitted."""
    copy = tmp_path / "project"
    for name in ("benchmark", "methods", "suites"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    suite = write_suite(laboratory.folder / "edited.yaml", {"KD": {"method": "kd"}}, profile={"epochs": 1})
    submitted = laboratory.submit(suite, "--slurm", "begin=now+4", PYTHONPATH=str(copy))
    assert submitted.returncode == 0, submitted.stderr
    (found,) = laboratory.submissions()
    for path in (*(copy / "benchmark").rglob("*.py"), *(copy / "methods").rglob("*.py")):
        path.write_text("raise RuntimeError('edited after the submission')\n")
    reference = Undisturbed(tmp_path / "undisturbed", suite)
    laboratory.wait_for(plan_of(suite).runs)
    assert not lost(plan_of(suite).runs, laboratory.folder, reference.done())
    record = record_of(runs_of(suite)["KD"], laboratory.folder)
    assert record.code.source_sha256 == found.revision["source_sha256"] == provenance.source_hash()
    scripts = [path.read_text() for path in laboratory.folder.glob("runs/jobs/*/*submission.sh")]
    waiting_and_memory = ("GOMP_SPINCOUNT=", "MALLOC_TRIM_THRESHOLD_=")
    assert scripts and all(setting in script for script in scripts for setting in waiting_and_memory)


def test_a_wrong_partition_is_told_and_leaves_nothing_behind(laboratory: Laboratory) -> None:
    suite = write_suite(laboratory.folder / "wrong.yaml", {"Student": {"method": "none"}})
    refused = laboratory.submit(suite, "--partition", "gpu")
    assert refused.returncode == 2
    assert "invalid partition specified: gpu" in refused.stderr
    assert "sinfo" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert laboratory.submissions() == []
    assert laboratory.cluster.queue() == []


def test_cancelling_ends_what_was_submitted_here_and_nothing_else(laboratory: Laboratory) -> None:
    suite = write_suite(laboratory.folder / "cancelled.yaml", {"Student": {"method": "none"}}, profile={"epochs": 4000})
    other = laboratory.cluster.control("sbatch", "--output=/dev/null", "--wrap=sleep 300")
    assert laboratory.submit(suite).returncode == 0
    (found,) = laboratory.submissions()
    paths = store_in(laboratory.folder).paths(runs_of(suite)["Student"])
    until(paths.checkpoint.exists, "the run trains")
    running = laboratory.call("status", str(suite))
    assert f"job {found.jobs[0].id}, log " in running.stdout
    again = laboratory.submit(suite)
    assert "1 submitted before, 0 to submit" in again.stdout
    cancelled = laboratory.call("cancel")
    assert "1 jobs cancelled" in cancelled.stdout
    until(lambda: not paths.lease.exists(), "the run has stopped")
    until(lambda: len(laboratory.cluster.queue()) == 1, "the job has ended and is not queued again")
    assert laboratory.cluster.queue() == [other.stdout.split()[-1]]
    assert "stopped" in laboratory.call("status", str(suite)).stdout


def test_two_hundred_runs_in_arrays_submitted_twice_at_once_with_one_that_fails(
    laboratory: Laboratory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = {"epochs": 1, "train": 16, "test": 10, "batch": 16}
    suite = write_suite(
        laboratory.folder / "many.yaml", {"Student": {"method": "none"}}, profile=tiny | {"repetitions": 200}
    )
    absent = {"model": "resnet14", "weights": "nowhere.pt"}
    rows = {"Broken": {"method": "kd", "teacher": absent}}
    broken = write_suite(laboratory.folder / "broken.yaml", rows, profile=tiny)
    assert laboratory.submit(broken).returncode == 0
    given = ("--batch-minutes", "0.03", "--max-parallel", "2")
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda _: laboratory.submit(suite, *given), range(2)))
    assert [done.returncode for done in both] == [0, 0], both
    jobs = [job for submission in laboratory.submissions() for job in submission.jobs]
    runs = plan_of(suite).runs
    reference = Undisturbed(tmp_path / "undisturbed", suite)
    laboratory.wait_for(runs)
    until(lambda: not laboratory.cluster.queue(), "the queue is empty")
    missing = lost(runs, laboratory.folder, reference.done())
    work = laboratory.folder / "runs" / "work"
    attempts = [len((work / run.key / "attempts.txt").read_text().splitlines()) for run in runs]
    with capsys.disabled():
        print(f"\n{len(runs)} runs in {len(jobs)} jobs of two submissions, records lost {len(missing)}")
    assert not missing
    assert set(attempts) == {1}
    assert not half_written(laboratory.folder)
    shown = laboratory.call("status", str(broken)).stdout
    assert "failed" in shown
    assert "no weights at nowhere.pt" in shown
    assert "_log.out" in shown


def test_two_processes_train_one_run_through_preemption(laboratory: Laboratory, tmp_path: Path) -> None:
    """Check that both ranks stop at the same step and resume from one checkpoint to the undisturbed result."""
    suite = write_suite(
        laboratory.folder / "ranks.yaml", {"Student": {"method": "none"}}, profile=TRAINED | {"repetitions": 1}
    )
    run = runs_of(suite)["Student"]
    laboratory.watch([run])
    assert laboratory.submit(suite, "--ranks", "2").returncode == 0
    job = laboratory.preempted(run)
    calm = Laboratory(tmp_path / "calm", laboratory.cluster)
    calm.folder.mkdir()
    assert calm.submit(suite, "--ranks", "2").returncode == 0
    laboratory.wait_for([run])
    assert "stopped: queued again" in laboratory.log_of(job)
    calm.wait_for([run])
    assert not lost([run], laboratory.folder, calm.folder)
    assert record_of(run, laboratory.folder).interruptions > 0 == record_of(run, calm.folder).interruptions
