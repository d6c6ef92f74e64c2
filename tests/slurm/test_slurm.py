"""Jobs on a real Slurm: every fault that a cluster knows, and after all of them every record, once and bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from campaign import Laboratory, half_written, lost, until
from small import plan_of, run_suite, runs_of, write_suite

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

EACH_ITS_JOB = ("--batch-minutes", "0.0001")
TRAINED = {"epochs": 16, "train": 64, "test": 20, "repetitions": 2}
ROWS = {"KD": {"method": "kd"}, "DKD": {"method": "dkd"}}


def undisturbed(suites: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same suites in this process, in another folder."""
    folder.mkdir()
    with monkeypatch.context() as context:
        context.chdir(folder)
        assert all(run_suite(suite) == 0 for suite in suites)
    return folder


def test_every_fault_is_survived_bit_for_bit(
    laboratory: Laboratory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
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
    jobs = {"killed": laboratory.killed(teacher), "preempted": laboratory.preempted(teacher)}
    asleep = laboratory.frozen(timed_out)
    jobs["USR2"] = laboratory.signalled(named["KD", 0], "USR2")
    jobs["TERM"] = laboratory.signalled(named["KD", 1], "TERM")
    laboratory.node_restarted(named["DKD", 0])
    jobs["time-out"] = laboratory.timed_out(timed_out, asleep)
    jobs["node lost"] = laboratory.node_lost(named["DKD", 1])
    runs = [*runs, timed_out]
    laboratory.wait_for(runs)
    until(lambda: not laboratory.cluster.control("squeue", "--noheader").stdout.strip(), "the queue is empty")
    for fault in ("preempted", "time-out", "USR2", "TERM"):
        assert "stopped: queued again" in laboratory.log_of(jobs[fault]), fault
    reference = undisturbed([suite, short], tmp_path / "undisturbed", monkeypatch)
    missing = lost(runs, laboratory.folder, reference)
    injected, survived = len(laboratory.faults), len(laboratory.faults) - len(missing)
    with capsys.disabled():
        print(f"\nfaults injected {injected}, survived {survived}, records lost {len(missing)} of {len(runs)}")
        print("  " + "\n  ".join(laboratory.faults))
    assert not missing
    assert not half_written(laboratory.folder)
