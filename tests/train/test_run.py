"""From a manifest to records: teachers, gates, repetition, resumption, and everything that can go wrong on the way."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Forked
from small import (
    PROFILE,
    ROOT,
    call,
    command,
    environment,
    record_of,
    run_suite,
    runs_of,
    store_in,
    write_suite,
)

from benchmark.cli.parser import main
from benchmark.machine.files import write_atomically
from benchmark.models.registry import model
from benchmark.plan.experiment import Run
from benchmark.records.store import Record, RunPaths, read_record
from benchmark.train import checkpoint
from benchmark.train.engine import testing

STUDENT = {"Student": {"method": "none"}}
PATIENCE = 120.0  # seconds, far more than anything here takes


def paths_of(run: Run, folder: Path) -> RunPaths:
    return store_in(folder).paths(run)


def weights_of(run: Run, folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(paths_of(run, folder).student, weights_only=True)
    return found


def teacher_file(path: Path, name: str = "resnet14", classes: int = 100) -> str:
    """A checkpoint with fresh weights, and its sha256."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        torch.save(model(name).build(classes).state_dict(), path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Teachers


def test_a_teacher_is_trained_first_once_and_reused(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: dict[str, dict[str, Any]] = {"KD": {"method": "kd"}, "DKD": {"method": "dkd"}}
    suite = write_suite(workplace / "teacher.yaml", rows)
    assert run_suite(suite) == 0
    finished = [line for line in capsys.readouterr().out.splitlines() if "#0: top-1" in line]
    assert [line.partition(" #0")[0] for line in finished] == [
        "generated/resnet14/none",
        "generated/resnet14-resnet8/kd",
        "generated/resnet14-resnet8/dkd",
    ]
    runs = runs_of(suite)
    teacher = record_of(runs["teacher"], workplace)
    for row in rows:
        facts = record_of(runs[row], workplace).teacher
        assert facts is not None
        assert facts.weights_sha256 == teacher.weights_sha256
    again = write_suite(workplace / "again.yaml", {"FitNet": {"method": "fitnet"}})
    assert run_suite(again) == 0
    assert "2 runs of 2 experiments, 1 done, 1 pending" in capsys.readouterr().out


def test_what_is_done_is_not_done_again(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = write_suite(workplace / "done.yaml", STUDENT)
    assert run_suite(suite) == 0
    record = paths_of(runs_of(suite)["Student"], workplace).record
    before = record.read_bytes(), record.stat().st_mtime_ns
    capsys.readouterr()
    assert run_suite(suite) == 0
    assert "1 done, 0 pending" in capsys.readouterr().out
    assert (record.read_bytes(), record.stat().st_mtime_ns) == before


def test_a_teacher_from_a_pinned_checkpoint_is_loaded_and_its_gate_measured(workplace: Path) -> None:
    sha = teacher_file(workplace / "teacher.pt")
    given = {"model": "resnet14", "weights": "teacher.pt", "sha256": sha, "published": 1.0}
    rows: dict[str, dict[str, Any]] = {"Teacher": {"subject": "teacher"}, "KD": {"method": "kd"}}
    suite = write_suite(workplace / "given.yaml", rows, setting={"teacher": given})
    assert run_suite(suite) == 0
    runs = runs_of(suite)
    gate = record_of(runs["KD"], workplace).teacher
    assert gate is not None
    assert gate.weights_sha256 == checkpoint.tensors_sha256(torch.load("teacher.pt", weights_only=True))
    assert set(gate.metrics) == {"top1", "top5", "loss"}
    measured = record_of(runs["Teacher"], workplace)
    assert measured.last["top1"] == gate.metrics["top1"]
    assert measured.weights_sha256 == gate.weights_sha256
    assert not paths_of(runs["Teacher"], workplace).student.exists()  # nothing was trained
    (cached,) = (workplace / "runs" / "teachers").glob("*.json")
    assert json.loads(cached.read_text())["top1"] == gate.metrics["top1"]


def test_the_gate_is_measured_once_for_the_same_weights_and_images(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    from benchmark.train.engine import teacher

    original = teacher.evaluate
    monkeypatch.setattr(teacher, "evaluate", lambda *arguments: calls.append(1) or original(*arguments))
    suite = write_suite(workplace / "gate.yaml", {"KD": {"method": "kd"}, "DKD": {"method": "dkd"}})
    assert run_suite(suite) == 0
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("saved", "classes", "named", "messages"),
    [
        ("resnet8", 100, "resnet14", ["layer1.1.conv1.weight is missing", "is no checkpoint of resnet14"]),
        ("resnet20", 100, "resnet14", ["layer1.2.conv1.weight is not part of resnet14"]),
        ("resnet14", 10, "resnet14", ["fc.weight is (10, 64), resnet14 has (100, 64)", "number of classes"]),
    ],
)
def test_a_checkpoint_of_another_network_says_which_tensors_differ(
    saved: str, classes: int, named: str, messages: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sha = teacher_file(workplace / "teacher.pt", saved, classes)
    given = {"model": named, "weights": "teacher.pt", "sha256": sha}
    suite = write_suite(workplace / "wrong.yaml", {"KD": {"method": "kd"}}, setting={"teacher": given})
    assert run_suite(suite) == 3
    shown = capsys.readouterr().err
    assert all(message in shown for message in messages)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": "teacher.pt", "sha256": "0" * 64}, "teacher.pt is not the pinned file: sha256"),
        ({"weights": "nowhere.pt"}, "no weights at nowhere.pt"),
        ({"weights": "notes.txt"}, "notes.txt is no readable checkpoint"),
        ({"weights": "list.pt"}, "list.pt holds no state dict"),
    ],
)
def test_weights_that_are_not_the_pinned_ones_are_refused(
    given: dict[str, str], message: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher_file(workplace / "teacher.pt")
    (workplace / "notes.txt").write_text("no checkpoint")
    torch.save([1, 2], workplace / "list.pt")
    teacher = {"model": "resnet14", **given}
    suite = write_suite(workplace / "pinned.yaml", {"KD": {"method": "kd"}}, setting={"teacher": teacher})
    assert run_suite(suite) == 3
    assert message in capsys.readouterr().err


def test_a_teacher_whose_weights_are_gone_is_trained_again(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_suite(write_suite(workplace / "first.yaml", {"Teacher": {"subject": "teacher"}})) == 0
    second = write_suite(workplace / "second.yaml", {"KD": {"method": "kd"}})
    teacher = runs_of(second)["teacher"]
    before = record_of(teacher, workplace)
    paths_of(teacher, workplace).student.unlink()
    capsys.readouterr()
    assert run_suite(second) == 0
    assert "no weights here, so this teacher is trained again" in capsys.readouterr().out
    after = record_of(teacher, workplace)
    assert after.outcome() == before.outcome()
    assert after.interruptions == 0


def test_a_teacher_file_that_is_not_the_recorded_one_is_refused(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_suite(write_suite(workplace / "first.yaml", {"Teacher": {"subject": "teacher"}})) == 0
    second = write_suite(workplace / "second.yaml", {"KD": {"method": "kd"}})
    teacher_file(paths_of(runs_of(second)["teacher"], workplace).student)
    assert run_suite(second) == 3
    assert "does not hold the weights of its record" in capsys.readouterr().err


# Methods that cannot, or do not exist


@pytest.fixture
def extra(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a user's own methods."""
    folder = workplace / "extra"
    folder.mkdir()
    monkeypatch.setenv("BENCHMARK_EXTRA", str(folder))
    return folder


OWN = """
import torch

from methods.base import LOGITS, Losses, Method


class {name}(Method):
    '''One of a test's own.'''

    taps = (LOGITS,)

    def build(self, pair):
        {build}

    def losses(self, student, teacher, batch, moment):
        {losses}
"""


def own(folder: Path, name: str, build: str = "pass", losses: str = "return Losses({})") -> None:
    (folder / f"{name.lower()}.py").write_text(OWN.format(name=name, build=build, losses=losses))


def test_a_method_that_cannot_serve_a_pair_is_skipped_with_its_reason(
    workplace: Path, extra: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own(extra, "Picky", build="self.skip('it wants a wider student')")
    suite = write_suite(workplace / "picky.yaml", {"Picky": {"method": "picky"}, "KD": {"method": "kd"}})
    assert run_suite(suite) == 0
    shown = capsys.readouterr().out
    assert "picky #0: skipped: Picky cannot serve this pair: it wants a wider student" in shown
    record = record_of(runs_of(suite)["Picky"], workplace)
    assert (record.status, record.reason) == ("skipped", "Picky cannot serve this pair: it wants a wider student")
    assert "| Picky | skipped" in (workplace / "runs" / "records" / "smoke" / "picky.md").read_text()
    assert record_of(runs_of(suite)["KD"], workplace).status == "done"
    assert main(["status", str(suite)]) == 0
    assert "it wants a wider student" in capsys.readouterr().out


def test_a_method_that_fails_does_not_stop_the_others(
    workplace: Path, extra: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own(extra, "Broken", losses="raise ZeroDivisionError('on purpose')")
    suite = write_suite(workplace / "broken.yaml", {"Broken": {"method": "broken"}, "KD": {"method": "kd"}})
    assert run_suite(suite) == 1
    shown = capsys.readouterr()
    assert "FAILED generated/resnet14-resnet8/broken #0: ZeroDivisionError: on purpose" in shown.err
    runs = runs_of(suite)
    assert "on purpose" in paths_of(runs["Broken"], workplace).failure.read_text()
    assert record_of(runs["KD"], workplace).status == "done"
    assert main(["status", str(suite), "--json"]) == 0
    states = {row["run"]: row["state"] for row in json.loads(capsys.readouterr().out)[1:]}
    assert states[runs["Broken"].label] == "failed"
    own(extra, "Broken")  # mended, it is done at the next call, and its failure forgotten
    assert Forked(["run", str(suite), "--threads", "1"]).wait(PATIENCE) == 0
    assert not paths_of(runs["Broken"], workplace).failure.exists()


def test_unknown_options_list_the_right_ones(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = write_suite(workplace / "options.yaml", {"KD": {"method": {"kd": {"temp": 4}}}})
    assert run_suite(suite) == 2
    shown = capsys.readouterr().err
    assert "kd.temp: no such option" in shown
    assert "task_weight, temperature, weight" in shown


EXPLODE = "return Losses({'boom': torch.where(moment.progress >= 0.5, float('nan'), 0.0) * student[LOGITS].sum()})"


def test_a_loss_that_is_no_number_stops_the_run_and_is_recorded(
    workplace: Path, extra: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own(extra, "Explode", losses=EXPLODE)
    rows: dict[str, dict[str, Any]] = {"Explode": {"method": "explode"}, "KD": {"method": "kd"}}
    suite = write_suite(workplace / "nan.yaml", rows)
    assert run_suite(suite) == 1
    shown = capsys.readouterr()
    # Two epochs of two steps: progress is 0, 1/4, 1/2, so it breaks at step 2, counted from 0.
    reason = "boom is not a finite number at step 2 (epoch 2)"
    assert reason in shown.out
    assert "DIVERGED" in shown.err
    runs = runs_of(suite)
    record = record_of(runs["Explode"], workplace)
    assert (record.status, record.reason, record.weights_sha256) == ("diverged", reason, None)
    assert record.best_epoch == 1  # what came before is kept
    assert not paths_of(runs["Explode"], workplace).checkpoint.exists()
    assert record_of(runs["KD"], workplace).status == "done"
    assert run_suite(suite) == 0  # recorded, never retried
    assert "2 done" not in shown.out
    assert "| Explode | diverged" in (workplace / "runs" / "records" / "smoke" / "nan.md").read_text()


def test_weights_that_overflow_at_the_test_are_divergence_too(workplace: Path, extra: Path) -> None:
    # The training terms stay finite; the student's weights do not give finite scores.
    own(extra, "Inflate", losses="return Losses({'inflate': student[LOGITS].float().mean() * -1e30})")
    suite = write_suite(
        workplace / "inflate.yaml", {"Inflate": {"method": "inflate"}}, profile={"epochs": 1, "train": 16}
    )
    assert run_suite(suite) == 1
    record = record_of(runs_of(suite)["Inflate"], workplace)
    assert record.status == "diverged"
    assert record.reason == "test loss is not a finite number after step 0 (epoch 1)"


def test_writing_the_student_is_no_part_of_the_training_time(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(path: Path, write: Callable[..., object]) -> None:
        time.sleep(1.0)
        write_atomically(path, write)

    monkeypatch.setattr("benchmark.train.bookkeeping.write_atomically", slowly)
    suite = write_suite(workplace / "slow.yaml", STUDENT)
    assert run_suite(suite) == 0
    record = record_of(runs_of(suite)["Student"], workplace)
    assert record.images_per_second is not None
    images = PROFILE["epochs"] * PROFILE["train"]
    assert record.seconds - images / record.images_per_second > 0.95


def test_the_students_of_a_teacher_that_diverged_say_so(
    workplace: Path, extra: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:

    original = testing.evaluate
    monkeypatch.setattr(testing, "evaluate", lambda *a: original(*a) | {"loss": float("inf")})
    suite = write_suite(workplace / "fallen.yaml", {"KD": {"method": "kd"}})
    assert run_suite(suite) == 1
    assert "its teacher generated/resnet14/none is diverged: test loss" in capsys.readouterr().err


# Randomness


def test_the_same_seed_gives_the_same_bits(workplace: Path) -> None:
    rows: dict[str, dict[str, Any]] = {"Student": {"method": "none"}, "DiffKD": {"method": "diffkd"}}
    suite = write_suite(workplace / "same.yaml", rows)
    found = []
    for place in ("one", "other"):
        assert run_suite(suite, "--results-dir", f"{place}/results", "--runs-dir", f"{place}/runs") == 0
        found.append([record_of(run, workplace / place).outcome() for run in runs_of(suite).values()])
    assert found[0] == found[1]


def test_repetitions_differ(workplace: Path) -> None:
    suite = write_suite(workplace / "repeated.yaml", STUDENT)
    assert run_suite(suite, "--seeds", "2") == 0
    experiment = runs_of(suite)["Student"].experiment
    hashes = {record_of(Run(experiment, repetition), workplace).weights_sha256 for repetition in (0, 1)}
    assert len(hashes) == 2


def test_a_run_leaves_every_global_generator_as_it_was(workplace: Path) -> None:
    import numpy as np

    rows = {name: {"method": name} for name in ("none", "diffkd", "crd", "vid")}
    suite = write_suite(workplace / "global.yaml", rows)
    torch_before, python_before, numpy_before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]
    assert run_suite(suite) == 0
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert random.getstate() == python_before
    assert (np.random.get_state()[1] == numpy_before).all()


def test_the_global_generator_changes_no_number(workplace: Path) -> None:
    suite = write_suite(workplace / "seeded.yaml", {"DiffKD": {"method": "diffkd"}})
    found = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            assert run_suite(suite, "--results-dir", f"{seed}/results", "--runs-dir", f"{seed}/runs") == 0
        found.append(record_of(runs_of(suite)["DiffKD"], workplace / str(seed)).outcome())
    assert found[0] == found[1]


def test_adding_a_method_changes_no_other_number(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = write_suite(workplace / "alone.yaml", {"DiffKD": {"method": "diffkd"}})
    assert run_suite(alone, "--results-dir", "a/results", "--runs-dir", "a/runs") == 0
    (workplace / "added").mkdir()
    own(workplace / "added", "Newcomer", build="self.net = torch.nn.Linear(64, 64)")
    monkeypatch.setenv("BENCHMARK_EXTRA", str(workplace / "added"))
    rows: dict[str, dict[str, Any]] = {"New": {"method": "newcomer"}, "DiffKD": {"method": "diffkd"}}
    beside = write_suite(workplace / "beside.yaml", rows)
    assert run_suite(beside, "--results-dir", "b/results", "--runs-dir", "b/runs") == 0
    first, second = (
        record_of(runs_of(suite)["DiffKD"], workplace / place) for suite, place in ((alone, "a"), (beside, "b"))
    )
    assert first.outcome() == second.outcome()
    assert record_of(runs_of(beside)["New"], workplace / "b").code.extra_sha256


# Interruption


LONG = {"epochs": 12, "train": 80}  # five steps an epoch


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_polite_stop_writes_a_checkpoint_and_the_same_command_resumes(
    number: int, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = write_suite(workplace / "stopped.yaml", STUDENT, profile=LONG)
    arguments = ["run", str(suite), "--threads", "1", "--checkpoint-seconds", "0"]
    run = runs_of(suite)["Student"]
    checkpoint_path = paths_of(run, workplace).checkpoint
    started = subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    wait_until(checkpoint_path.exists, started)
    started.send_signal(number)
    out, err = started.communicate(timeout=60)
    assert started.returncode == 130, err
    assert "stopped, checkpoint written" in out
    assert "the same command resumes" in err
    status = call("status", str(suite), "--json")
    assert {row["state"] for row in json.loads(status.stdout)[1:]} == {"stopped"}
    assert run_suite(suite) == 0
    assert "resuming from epoch" in capsys.readouterr().out
    assert record_of(run, workplace).interruptions == 1


def wait_until(holds: Callable[[], object], process: subprocess.Popen[str] | Forked) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert process.poll() is None, "ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # three minutes on a machine of one's own
def test_a_run_killed_twenty_times_ends_as_one_never_killed(workplace: Path) -> None:
    sha = teacher_file(workplace / "teacher.pt")
    given = {"model": "resnet14", "weights": str(workplace / "teacher.pt"), "sha256": sha}
    profile = {"epochs": 12, "train": 160}  # ten steps an epoch
    suite = write_suite(
        workplace / "killed.yaml", {"DiffKD": {"method": "diffkd"}}, setting={"teacher": given}, profile=profile
    )
    run = runs_of(suite)["DiffKD"]
    whole = call("run", str(suite), "--threads", "1", "--results-dir", "whole/results", "--runs-dir", "whole/runs")
    assert whole.returncode == 0, whole.stderr
    whole_record = record_of(run, workplace / "whole")

    chance = random.Random(2305)
    arguments = ["run", str(suite), "--threads", "1", "--checkpoint-seconds", "0.1"]
    said = [killed(arguments, run, workplace, chance, whole_record.seconds, kills) for kills in range(20)]
    last = call(*arguments)
    assert last.returncode == 0, last.stderr

    places = [re.search(r"resuming from epoch (\d+), step (\d+)", text) for text in [*said, last.stdout]]
    reached = [(int(place[1]), int(place[2])) for place in places if place]
    assert len(reached) >= 10
    assert reached == sorted(reached)  # nothing that was saved is ever lost
    killed_record = record_of(run, workplace)
    assert killed_record.outcome() == whole_record.outcome()
    assert (killed_record.interruptions, whole_record.interruptions) == (20, 0)
    mine, reference = weights_of(run, workplace), weights_of(run, workplace / "whole")
    assert mine.keys() == reference.keys()
    assert all(torch.equal(mine[name], reference[name]) for name in reference)
    curves = [paths_of(run, place).curves.read_text() for place in (workplace, workplace / "whole")]
    assert curves[0] == curves[1]
    paths = paths_of(run, workplace)
    assert not [*paths.work.glob(".*.partial"), *paths.record.parent.glob(".*.partial")]
    assert not paths.checkpoint.exists()


def killed(arguments: list[str], run: Run, workplace: Path, chance: random.Random, seconds: float, kills: int) -> str:
    """Start the run and kill it at a random moment: one time in four while it is built, else while it trains."""
    paths, log = paths_of(run, workplace), workplace / "log.txt"

    def saved() -> int:
        with contextlib.suppress(FileNotFoundError):  # for a moment, while the next one is put in its place
            return paths.checkpoint.stat().st_mtime_ns
        return 0

    def done() -> float:
        found = checkpoint.load(paths.checkpoint, run, lambda text: None)
        return (found.state["epoch"] + found.state["step"] / 10) / 12 if found else 0.0

    before, early = saved(), chance.random() < 0.25
    # The machine may be faster now than in the whole run: the part that is done must stay behind the kills.
    longest = seconds / 20 if done() < 0.7 * kills / 20 or kills == 0 else 0.0
    process = Forked(arguments, log)
    try:
        while process.poll() is None and (lines(paths.attempts) <= kills if early else saved() == before):
            time.sleep(0.002)
        process.wait(chance.uniform(0.0, longest))
    finally:
        ended = process.kill()
    assert ended == -signal.SIGKILL, f"ended by itself after {kills} kills:\n{log.read_text()}"
    return log.read_text()


def lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_what_a_killed_writer_left_beside_a_record_is_swept(workplace: Path) -> None:
    suite = write_suite(workplace / "renames.yaml", STUDENT)
    assert run_suite(suite) == 0
    run = runs_of(suite)["Student"]
    reference = record_of(run, workplace)
    paths = paths_of(run, workplace)
    paths.record.unlink()
    paths.attempts.unlink()
    (paths.record.parent / f".{paths.record.name}.00000000.partial").write_text("{")
    assert run_suite(suite) == 0
    assert record_of(run, workplace).outcome() == reference.outcome()
    assert not list(paths.record.parent.glob(".*"))


@dataclass
class Interrupted:
    """A run stopped by a full disk with two checkpoints written, what was said, and how it would have ended."""

    folder: Path
    suite: Path
    run: Run
    said: str
    outcome: dict[str, Any]


@pytest.fixture(scope="module")
def stopped_by_a_full_disk(
    tmp_path_factory: pytest.TempPathFactory, generated_once: Callable[[], object]
) -> Interrupted:
    folder = tmp_path_factory.mktemp("full-disk")
    suite = write_suite(folder / "interrupted.yaml", STUDENT, profile={"epochs": 4})
    run = runs_of(suite)["Student"]
    saved = 0
    original = checkpoint.write_atomically

    def refused(path: Path, write: Any) -> None:
        from benchmark.machine.files import storage

        nonlocal saved
        saved += 1
        with storage(path):
            if saved > 4:
                raise OSError(28, "No space left on device")
            original(path, write)

    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
        patch.setattr("benchmark.data.generated.generate", generated_once)
        patch.chdir(folder)
        patch.setenv("BENCHMARK_OFFLINE", "1")
        patch.setenv("BENCHMARK_DATA", str(folder / "no-data"))
        assert run_suite(suite, "--results-dir", "whole/results", "--runs-dir", "whole/runs") == 0
        patch.setattr(checkpoint, "write_atomically", refused)
        assert run_suite(suite, "--checkpoint-seconds", "0") == 4
    return Interrupted(folder, suite, run, said.getvalue(), record_of(run, folder / "whole").outcome())


@pytest.fixture
def interrupted(stopped_by_a_full_disk: Interrupted, workplace: Path) -> tuple[Path, Run, dict[str, Any]]:
    """A copy of it in a place of its own."""
    for name in ("runs", "results"):
        if (stopped_by_a_full_disk.folder / name).exists():
            shutil.copytree(stopped_by_a_full_disk.folder / name, workplace / name)
    run = stopped_by_a_full_disk.run
    assert paths_of(run, workplace).checkpoint.exists()
    assert checkpoint.previous(paths_of(run, workplace).checkpoint).exists()
    return stopped_by_a_full_disk.suite, run, stopped_by_a_full_disk.outcome


def test_a_full_disk_is_a_clear_error_and_nothing_is_lost(
    interrupted: tuple[Path, Run, dict[str, Any]],
    stopped_by_a_full_disk: Interrupted,
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    suite, run, reference = interrupted
    shown = stopped_by_a_full_disk.said
    assert "error: cannot write" in shown
    assert "No space left on device" in shown
    assert "free some space and run the same command again" in shown
    assert run_suite(suite) == 0
    assert "resuming from epoch 2, step 2 of 2" in capsys.readouterr().out
    assert record_of(run, workplace).outcome() == reference


@pytest.mark.parametrize("kept", [0, 100, 10_000])
def test_a_truncated_checkpoint_gives_way_to_the_one_before(
    kept: int,
    interrupted: tuple[Path, Run, dict[str, Any]],
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    suite, run, reference = interrupted
    path = paths_of(run, workplace).checkpoint
    path.write_bytes(path.read_bytes()[:kept])
    assert run_suite(suite) == 0
    shown = capsys.readouterr().out
    assert f"{path} cannot be read" in shown
    assert "resuming from epoch 2, step 1 of 2" in shown
    assert record_of(run, workplace).outcome() == reference


@pytest.mark.parametrize("kept", ["fresh-checkpoint.pt", "previous-checkpoint.pt"])
def test_a_run_killed_between_two_renames_is_seen_as_stopped_and_goes_on(
    kept: str, interrupted: tuple[Path, Run, dict[str, Any]], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite, run, reference = interrupted
    path = paths_of(run, workplace).checkpoint
    path.replace(path.with_name(kept))
    assert main(["status", str(suite), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[1]["state"] == "stopped"
    assert run_suite(suite) == 0
    assert "resuming from epoch 2, step 2 of 2" in capsys.readouterr().out
    assert record_of(run, workplace).outcome() == reference


def test_two_truncated_checkpoints_mean_a_fresh_start(
    interrupted: tuple[Path, Run, dict[str, Any]], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite, run, reference = interrupted
    for path in (paths_of(run, workplace).checkpoint, checkpoint.previous(paths_of(run, workplace).checkpoint)):
        path.write_bytes(b"PK")
    assert run_suite(suite) == 0
    assert "resuming from" not in capsys.readouterr().out
    assert record_of(run, workplace).outcome() == reference


def test_a_checkpoint_of_other_code_is_a_clear_error(
    interrupted: tuple[Path, Run, dict[str, Any]], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite, run, _ = interrupted
    path = paths_of(run, workplace).checkpoint
    found = checkpoint.load(path, run)
    assert found is not None
    found.state["distiller"]["student.network.renamed"] = torch.zeros(1)
    checkpoint.save(path, found.state, run, 1)
    assert run_suite(suite) == 1
    shown = capsys.readouterr().err
    assert f"{path} was written by other code" in shown
    assert "student.network.renamed" in shown
    assert "start this run again" in shown


def flipped(path: Path, part: float) -> None:
    """Flip one bit, some way into a file."""
    content = bytearray(path.read_bytes())
    content[int(len(content) * part)] ^= 16
    path.write_bytes(content)


def test_a_flipped_bit_in_a_checkpoint_changes_no_record(
    interrupted: tuple[Path, Run, dict[str, Any]], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite, run, reference = interrupted
    path = paths_of(run, workplace).checkpoint
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16  # in the midst of the weights
    path.write_bytes(content)
    assert run_suite(suite) == 0
    shown = capsys.readouterr().out
    assert f"kept as {path.name}.damaged-1" in shown
    assert "resuming from epoch 2, step 1 of 2" in shown
    assert record_of(run, workplace).outcome() == reference


def test_another_runs_checkpoint_is_not_taken_for_this_ones(
    interrupted: tuple[Path, Run, dict[str, Any]], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Repetition 1's work folder was copied from repetition 0's."""
    suite, run, _ = interrupted
    other = Run(run.experiment, 1)
    assert run_suite(suite, "--seeds", "2", "--results-dir", "whole/results", "--runs-dir", "whole/runs") == 0
    reference = record_of(other, workplace / "whole").outcome()
    shutil.copytree(paths_of(run, workplace).work, paths_of(other, workplace).work)
    assert run_suite(suite, "--seeds", "2") == 0
    shown = capsys.readouterr().out
    assert f"belongs to another run ({run.experiment.identity} #0): kept as checkpoint.pt.foreign-1" in shown
    assert record_of(other, workplace).outcome() == reference


def of_earlier_format(path: Path) -> dict[str, Any]:
    """Rewrite a checkpoint as programs before the seal did; return its content."""
    state: dict[str, Any] = torch.load(path, weights_only=True)
    del state["seal"], state["teacher_sha256"]
    torch.save(state, path)
    return state


def test_a_checkpoint_of_the_earlier_format_is_read_once_and_sealed(
    interrupted: tuple[Path, Run, dict[str, Any]], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite, run, reference = interrupted
    path = paths_of(run, workplace).checkpoint
    of_earlier_format(path)
    sealed: list[bool] = []
    original = checkpoint.save

    def watched(*arguments: Any) -> None:
        original(*arguments)
        sealed.append("seal" in torch.load(path, weights_only=True))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", watched)
        assert run_suite(suite) == 0
    shown = capsys.readouterr().out
    assert f"{path} has the format of an earlier version, without a seal: rewritten" in shown
    assert "resuming from epoch 2, step 2 of 2" in shown
    assert all(sealed)
    assert len(sealed) == 2, "once when it was read, once at the end"
    assert record_of(run, workplace).outcome() == reference


@pytest.mark.parametrize("left", ["previous", "nothing"])
def test_a_checkpoint_of_the_earlier_format_that_lacks_a_key_gives_way(
    left: str, interrupted: tuple[Path, Run, dict[str, Any]], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be read in part before that is seen: nothing of it may stay in the run."""
    suite, run, reference = interrupted
    path = paths_of(run, workplace).checkpoint
    state = of_earlier_format(path)
    name = next(iter(state["optimizer"]["state"]))
    del state["optimizer"]["param_groups"][0]["params"][name]
    torch.save(state, path)
    if left == "nothing":
        checkpoint.previous(path).unlink()
    assert run_suite(suite) == 0
    shown = capsys.readouterr().out
    assert "does not fit this run" in shown
    assert ("resuming from epoch 2, step 1 of 2" in shown) == (left == "previous")
    assert record_of(run, workplace).outcome() == reference


def test_a_run_does_not_go_on_with_another_teacher(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stopped in its second epoch, then the teacher's file was exchanged for one of the same network."""
    suite = write_suite(workplace / "exchanged.yaml", {"KD": {"method": "kd"}}, profile={"epochs": 4})
    assert run_suite(suite, "--only", "KD") == 0
    run, teacher = runs_of(suite)["KD"], runs_of(suite)["teacher"]
    paths = paths_of(run, workplace)
    reference = record_of(run, workplace)
    paths.record.unlink()
    saved = 0
    original = checkpoint.save

    def stopping(*arguments: Any) -> None:
        nonlocal saved
        original(*arguments)
        saved += 1
        if saved == 3:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", stopping)
        assert run_suite(suite, "--checkpoint-seconds", "0") == 130
    teacher_paths = paths_of(teacher, workplace)
    kept = teacher_paths.student.read_bytes()
    other = {
        name: value * 2 if value.is_floating_point() else value
        for name, value in weights_of(teacher, workplace).items()
    }
    torch.save(other, teacher_paths.student)
    teacher_record = teacher_paths.record.read_text()
    teacher_paths.record.write_text(
        teacher_record.replace(str(record_of(teacher, workplace).weights_sha256), checkpoint.tensors_sha256(other))
    )
    capsys.readouterr()
    assert run_suite(suite) == 1
    shown = capsys.readouterr().err
    assert "began with a teacher of other weights" in shown
    assert "restore the teacher's weights, or delete" in shown
    teacher_paths.student.write_bytes(kept)
    teacher_paths.record.write_text(teacher_record)
    assert run_suite(suite) == 0
    assert record_of(run, workplace).outcome() == reference.outcome()


@pytest.mark.parametrize("which", ["results", "runs"])
def test_a_place_that_cannot_be_written_is_told_before_anything_is_trained(
    which: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = write_suite(workplace / "place.yaml", STUDENT)
    (workplace / "file").write_text("")
    assert run_suite(suite, f"--{which}-dir", "file/inside") == 4
    shown = capsys.readouterr()
    assert "cannot write" in shown.err
    assert "top-1" not in shown.out


def test_a_truncated_record_is_restored_from_the_runs_own_copy(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = write_suite(workplace / "copy.yaml", STUDENT)
    assert run_suite(suite) == 0
    run = runs_of(suite)["Student"]
    reference, paths = record_of(run, workplace), paths_of(run, workplace)
    whole = paths.record.read_text()
    paths.record.write_text(whole[:200])
    assert run_suite(suite) == 0
    assert "restored from the copy in" in capsys.readouterr().out
    assert record_of(run, workplace) == reference
    (kept,) = paths.record.parent.glob("r0.unreadable-*")
    assert kept.read_text() == whole[:200]  # nothing is thrown away


def test_a_truncated_record_without_a_copy_means_the_run_is_done_again(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = write_suite(workplace / "nocopy.yaml", STUDENT)
    assert run_suite(suite) == 0
    run = runs_of(suite)["Student"]
    reference, paths = record_of(run, workplace), paths_of(run, workplace)
    paths.record.write_text(paths.record.read_text()[:200])
    (paths.work / "record.json").unlink()
    assert run_suite(suite) == 0
    assert "the run is trained again" in capsys.readouterr().out
    assert record_of(run, workplace).outcome() == reference.outcome()


# Several processes


def test_of_two_processes_one_works_and_the_other_waits(workplace: Path) -> None:
    suite = write_suite(workplace / "both.yaml", profile=PROFILE | {"epochs": 8})
    arguments, logs = ["run", str(suite), "--threads", "1"], [workplace / f"{which}.txt" for which in ("one", "other")]
    one = Forked([*arguments, "--checkpoint-seconds", "0"], logs[0])
    wait_until(lambda: list(workplace.rglob("checkpoint.pt")), one)
    os.kill(one.pid, signal.SIGSTOP)  # in the middle of a run, until the other waits for it
    try:
        other = Forked(arguments, logs[1])
        wait_until(lambda: "waiting for another process to finish" in logs[1].read_text(), other)
    finally:
        os.kill(one.pid, signal.SIGCONT)
    assert [process.wait(PATIENCE) for process in (one, other)] == [0, 0]
    said = [log.read_text() for log in logs]
    for run in runs_of(suite).values():
        assert len([text for text in said if f"{run.label}: top-1" in text]) == 1, run.label
        assert lines(paths_of(run, workplace).attempts) == 1
        assert record_of(run, workplace).interruptions == 0
    assert not list(workplace.rglob("*.partial"))
    assert not list(workplace.rglob("lease.json"))


def test_two_processes_mend_the_same_truncated_record(workplace: Path) -> None:
    suite = write_suite(workplace / "mend.yaml", STUDENT)
    assert run_suite(suite) == 0
    run = runs_of(suite)["Student"]
    reference, paths = record_of(run, workplace), paths_of(run, workplace)
    paths.record.write_text("{")
    both = [Forked(["run", str(suite), "--threads", "1"]) for _ in range(2)]
    assert [process.wait(PATIENCE) for process in both] == [0, 0]
    assert record_of(run, workplace) == reference
    assert len(list(paths.record.parent.glob("r0.unreadable-*"))) == 1


def test_status_sees_another_process_at_work(workplace: Path) -> None:
    suite = write_suite(workplace / "working.yaml", STUDENT, profile=LONG | {"epochs": 400})
    run = runs_of(suite)["Student"]
    started = Forked(["run", str(suite), "--threads", "1", "--checkpoint-seconds", "0.1"])
    try:
        wait_until(paths_of(run, workplace).checkpoint.exists, started)
        (row,) = json.loads(call("status", str(suite), "--json").stdout)[1:]
        assert row["state"] == "running"
        assert f"process {started.pid} on" in row["why"]
    finally:
        started.kill()
    (row,) = json.loads(call("status", str(suite), "--json").stdout)[1:]
    assert row["state"] == "stopped"


def test_a_record_of_a_newer_program_is_left_alone_and_its_run_is_not_trained(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = write_suite(workplace / "newer.yaml", {"Student": {"method": "none"}, "KD": {"method": "kd"}})
    assert run_suite(suite, "--only", "Student") == 0
    path = paths_of(runs_of(suite)["Student"], workplace).record
    path.write_text(path.read_text().replace('"schema_version": 2', '"schema_version": 3'))
    content = path.read_bytes()
    capsys.readouterr()
    assert run_suite(suite) == 1
    said = capsys.readouterr().err
    assert "its format 3 is newer than this program's 2: update this program to use it" in said
    assert path.read_bytes() == content and [path.name for path in path.parent.glob("r*")] == ["r0.csv", "r0.json"]
    assert record_of(runs_of(suite)["KD"], workplace).status == "done"


def test_a_record_says_who_asked_and_how_the_run_was_made(workplace: Path) -> None:
    suite = write_suite(workplace / "said.yaml", {"DiffKD": {"method": "diffkd"}})
    assert run_suite(suite, "--seeds", "2") == 0
    record = record_of(runs_of(suite)["DiffKD"], workplace)
    assert record.schema_version == 2 and record.lacks == [] and record.seed == 0
    assert record.requested.cells == ["said/DiffKD/Top-1"] and record.requested.declared == 2
    assert record.experiment.revisions == {"diffkd": 1}
    teacher = record.experiment.teacher
    assert teacher is not None and teacher.described is not None and teacher.described.recipe is not None
    assert teacher.described.student == "resnet14" and teacher.described.method == {"none": {}}
    (attempt,) = record.attempts
    assert attempt.step == 0 and attempt.source_sha256 == record.code.source_sha256 and attempt.threads == 1
    assert attempt.seconds == record.seconds
    assert record.student is not None and (record.student.params, record.student.macs) == (83_892, 12_507_392)
    old = read_record(next((ROOT / "results" / "mini").rglob("r0.json")))
    assert isinstance(old, Record) and "its attempts" in old.lacks
