"""`run --launcher` without a cluster: in this process, in other processes, and the error without Slurm."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from small import ROWS, call, record_of, run_suite, runs_of, store_in, write_suite

from benchmark.cli.parser import main
from benchmark.launch.squeue import Queue
from benchmark.launch.states import States
from benchmark.launch.submissions import Submission, SubmissionFolder, SubmittedJob, jobs_folder, submissions

FAKE_SQUEUE = "#!/bin/sh\ncat {answer}\n"


@pytest.fixture
def suite(workplace: Path) -> Path:
    return write_suite(workplace / "small.yaml", {"Student": {"method": "none"}})


def submitted(workplace: Path, suite: Path, **more: object) -> tuple[SubmissionFolder, Submission]:
    """Write the file of a submission to Slurm with one job, which has every run of the suite."""
    runs = tuple(run.key for run in runs_of(suite).values())
    place = SubmissionFolder(jobs_folder(store_in(workplace)) / "20300101-000000-abcd")
    given: dict[str, object] = {"launcher": "slurm", "submitted": time.time() - 60, "command": (), "code": "code"}
    jobs = (SubmittedJob(id="17_0", runs=runs),)
    submission = Submission.model_validate({"name": place.folder.name, "jobs": jobs, **given, **more})
    place.write(submission)
    return place, submission


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file whose content is the output of `squeue` from now on."""
    (tmp_path / "bin").mkdir()
    answer, program = tmp_path / "answer", tmp_path / "bin" / "squeue"
    answer.write_text("")
    program.write_text(FAKE_SQUEUE.format(answer=answer))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return answer


def state(suite: Path, workplace: Path) -> tuple[str, str]:
    found = States(store_in(workplace)).of(runs_of(suite)["Student"])
    return found.name, found.why


def test_status_tells_waiting_from_running_from_ended(suite: Path, workplace: Path, squeue: Path) -> None:
    place, _ = submitted(workplace, suite)
    squeue.write_text("17_0|benchmark-20300101-000000-abcd|PENDING|Priority\n")
    assert state(suite, workplace) == ("queued", "job 17_0: Priority")
    squeue.write_text("17_0|benchmark-20300101-000000-abcd|RUNNING|None\n")
    assert state(suite, workplace) == ("queued", "job 17_0: is running, this run comes later in it")
    squeue.write_text("17_0|another project|RUNNING|None\n")  # the same number, long after
    place.log("17_0").write_text("loading\nMemoryError: no more\n")
    name, why = state(suite, workplace)
    assert name == "failed"
    assert "job 17_0 ended without a record: MemoryError: no more" in why
    assert str(place.log("17_0")) in why
    place.cancelled.touch()
    assert state(suite, workplace) == ("missing", "")


def test_a_failure_in_a_job_is_told_with_its_log_while_other_runs_go_on(
    suite: Path, workplace: Path, squeue: Path
) -> None:
    place, _ = submitted(workplace, suite)
    squeue.write_text("17_0|benchmark-20300101-000000-abcd|RUNNING|None\n")
    place.log("17_0").write_text("...")
    failure = store_in(workplace).paths(runs_of(suite)["Student"]).failure
    failure.parent.mkdir(parents=True)
    failure.write_text("Traceback\nValueError: broken\n")
    name, why = state(suite, workplace)
    assert name == "failed"
    assert "ValueError: broken" in why
    assert str(place.log("17_0")) in why


def test_a_silent_queue_takes_nothing_for_ended(suite: Path, workplace: Path, squeue: Path) -> None:
    submitted(workplace, suite)
    (squeue.parent / "bin" / "squeue").write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
    name, why = state(suite, workplace)
    assert name == "queued"
    assert "Unable to contact slurm controller" in why
    assert main(["cancel"]) == 1


def test_what_is_submitted_is_not_submitted_again(
    suite: Path, workplace: Path, squeue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submitted(workplace, suite)
    squeue.write_text("17_0|benchmark-20300101-000000-abcd|PENDING|Priority\n")
    assert main(["run", str(suite), "--launcher", "slurm", "--device", "cpu"]) == 0
    assert "1 submitted before, 0 to submit" in capsys.readouterr().out
    assert len(submissions(store_in(workplace))) == 1


def test_a_submission_that_was_cut_off_is_unsupported(workplace: Path, suite: Path, squeue: Path) -> None:
    place, _ = submitted(workplace, suite)
    place.file.write_text(place.file.read_text()[:40])
    assert submissions(store_in(workplace)) == []
    assert state(suite, workplace) == ("missing", "")


def test_cancelling_names_what_there_is(
    workplace: Path, suite: Path, squeue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submitted(workplace, suite)
    assert main(["cancel"]) == 0
    assert "nothing to cancel" in capsys.readouterr().out
    assert main(["cancel", "20300101-000000-abce"]) == 2
    assert "did you mean '20300101-000000-abcd'?" in capsys.readouterr().err


def test_without_slurm_the_error_names_the_way_out(
    workplace: Path, suite: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(workplace))
    assert main(["run", str(suite), "--launcher", "slurm", "--device", "cpu"]) == 2
    shown = capsys.readouterr().err
    assert "no Slurm on this machine" in shown
    assert "--launcher local" in shown


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_jobs_in_this_process_give_the_same_records(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = write_suite(workplace / "debug.yaml", {"KD": {"method": "kd"}, "Broken": {"method": "dkd"}})
    monkeypatch.setattr("methods.dkd.DKD.losses", None)  # an error in one run is no other run's business
    assert run_suite(suite, "--launcher", "debug") == 1
    shown = capsys.readouterr()
    assert "| KD" in shown.out
    assert "FAILED generated/resnet14-resnet8/dkd #0" in shown.err
    found = record_of(runs_of(suite)["KD"], workplace)
    (tmp_path / "plain").mkdir()
    monkeypatch.chdir(tmp_path / "plain")
    assert run_suite(suite, "--only", "KD") == 0
    assert record_of(runs_of(suite)["KD"], tmp_path / "plain").outcome() == found.outcome()


@pytest.mark.slow
def test_processes_of_this_machine_share_the_runs_and_survive_the_command(workplace: Path) -> None:
    write_suite(workplace / "local.yaml", ROWS | {"DKD": {"method": "dkd"}})
    given = ("--launcher", "local", "--device", "cpu", "--threads", "1", "--max-parallel", "2")
    done = call("run", "local.yaml", *given)
    assert done.returncode == 0, done.stderr
    assert "2 jobs, 4 runs" in done.stdout
    waited = call("run", "local.yaml", *given, "--wait")
    assert waited.returncode == 0, waited.stderr + waited.stdout
    assert "| DKD" in waited.stdout
    rows = json.loads(call("status", "local.yaml", "--json").stdout)
    assert rows[0]["done"] == 4
    attempts = [len(path.read_text().splitlines()) for path in (workplace / "runs" / "work").glob("*/attempts.txt")]
    assert attempts == [1, 1, 1, 1]


@pytest.mark.slow
def test_a_job_of_this_machine_is_cancelled_with_a_checkpoint(workplace: Path) -> None:
    suite = write_suite(workplace / "long.yaml", {"Student": {"method": "none"}}, profile={"epochs": 2000})
    given = ("--launcher", "local", "--device", "cpu", "--threads", "1", "--checkpoint-seconds", "0.2")
    assert call("run", "long.yaml", *given).returncode == 0
    (pair,) = submissions(store_in(workplace))
    process = pair[1].jobs[0].process
    assert process is not None
    try:
        paths = store_in(workplace).paths(runs_of(suite)["Student"])
        deadline = time.monotonic() + 120
        while not paths.checkpoint.exists():
            assert time.monotonic() < deadline, pair[0].log(str(process.pid)).read_text()
            time.sleep(0.1)
        assert state(suite, workplace)[0] == "running"
        done = call("cancel")
        assert done.returncode == 0, done.stderr
        assert "1 jobs cancelled" in done.stdout
        while not process.is_gone(0.0):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert state(suite, workplace) == ("stopped", "resumes from its checkpoint")
        assert Queue.ask([pair]).jobs == {}
    finally:
        if not process.is_gone(0.0):
            os.kill(process.pid, signal.SIGKILL)
