"""Runs that take turns: each ends as it would alone, whatever becomes of the others."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from small import command, environment, record_of, run_suite, runs_of, store_in, write_suite

from benchmark.cli import main
from benchmark.experiment import Run
from benchmark.launch import packed
from benchmark.launch.packed import Turns, Work
from benchmark.models.registry import model

CPU = torch.device("cpu")
METHODS = ("none", "kd", "diffkd", "crd")


def suite_in(folder: Path, methods: tuple[str, ...] = METHODS, **more: Any) -> Path:
    torch.manual_seed(3)
    torch.save(model("resnet14").build(100).state_dict(), folder / "teacher.pt")
    teacher = {"model": "resnet14", "weights": str(folder / "teacher.pt")}
    rows = {name: {"method": name} for name in methods}
    return write_suite(folder / "packed.yaml", rows, setting={"teacher": teacher}, **more)


def outcomes(folder: Path, runs: dict[str, Run]) -> dict[str, Any]:
    return {row: record_of(run, folder).outcome() for row, run in runs.items()}


def alone_and(folder: Path, suite: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], Path]:
    """What the runs of a suite come to one after the other, and an empty place to do them again."""
    runs = runs_of(suite)
    assert run_suite(suite) == 0
    alone = outcomes(folder, runs)
    (folder / "again").mkdir()
    monkeypatch.chdir(folder / "again")
    return alone, folder / "again"


@pytest.mark.parametrize("pack", ["3", "auto"])
def test_a_packed_run_equals_the_same_run_alone(pack: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = suite_in(workplace)
    alone, place = alone_and(workplace, suite, monkeypatch)
    assert run_suite(suite, "--pack", pack) == 0
    assert outcomes(place, runs_of(suite)) == alone
    assert {record_of(run, place).asked["pack"] for run in runs_of(suite).values()} == {3 if pack == "3" else "auto"}


def test_a_teacher_of_the_plan_is_trained_before_its_students(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: dict[str, dict[str, Any]] = {"KD": {"method": "kd"}, "DKD": {"method": "dkd"}, "Alone": {"method": "none"}}
    suite = write_suite(workplace / "teacher.yaml", rows)
    assert run_suite(suite, "--pack", "4") == 0
    assert "waiting for another process" not in capsys.readouterr().out
    records = [record_of(run, workplace) for run in runs_of(suite).values()]
    assert {record.status for record in records} == {"done"}


BROKEN = """
from methods.base import LOGITS, Losses, Method


class {name}(Method):
    '''For a test.'''

    taps = (LOGITS,)

    def build(self, pair):
        {build}

    def losses(self, student, teacher, batch, moment):
        {losses}
"""


def test_what_becomes_of_one_run_leaves_the_others_alone(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = workplace / "extra"
    extra.mkdir()
    monkeypatch.setenv("BENCHMARK_EXTRA", str(extra))
    nan, bug = "return Losses({'term': student[LOGITS].sum() * float('nan')})", "raise RuntimeError('a mistake')"
    for name, build, losses in (
        ("Diverging", "pass", nan),
        ("Failing", "pass", bug),
        ("Refusing", "self.skip('it will not')", "return Losses({})"),
    ):
        (extra / f"{name.lower()}.py").write_text(BROKEN.format(name=name, build=build, losses=losses))
    healthy = runs_of(suite_in(workplace, ("kd", "diffkd")))
    alone, place = alone_and(workplace, workplace / "packed.yaml", monkeypatch)
    mixed = suite_in(workplace, ("diverging", "kd", "failing", "refusing", "diffkd"))
    runs = runs_of(mixed)
    assert run_suite(mixed, "--pack", "5") == 1
    assert outcomes(place, healthy) == alone
    assert record_of(runs["diverging"], place).status == "diverged"
    assert record_of(runs["refusing"], place).status == "skipped"
    assert store_in(place).read(runs["failing"]) is None
    assert "a mistake" in store_in(place).paths(runs["failing"]).failure.read_text()


def test_too_little_memory_beside_others_waits_for_them(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = suite_in(workplace, ("kd", "diffkd"))
    alone, place = alone_and(workplace, suite, monkeypatch)
    from benchmark.engine.training import Training

    original, failed = Training.one_step, []

    def short(self: Training, plan: Any) -> None:
        if self.run_id.experiment.method.name == "diffkd" and not failed:
            failed.append(True)
            raise torch.OutOfMemoryError("for a test")
        original(self, plan)

    monkeypatch.setattr(Training, "one_step", short)
    assert run_suite(suite, "--pack", "2") == 0
    assert failed
    assert outcomes(place, runs_of(suite)) == alone


def test_a_polite_stop_reaches_every_run_at_work(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = suite_in(workplace, ("kd", "diffkd"))
    alone, place = alone_and(workplace, suite, monkeypatch)
    from benchmark.engine.training import Training

    original, steps = Training.one_step, []

    def counted(self: Training, plan: Any) -> None:
        original(self, plan)
        steps.append(self.run_id)
        if len(steps) == 4:
            self.settings.stop.set()

    monkeypatch.setattr(Training, "one_step", counted)
    runs = runs_of(suite)
    assert run_suite(suite, "--pack", "2") == 130
    for run in runs.values():
        assert store_in(place).paths(run).checkpoint.exists()
        assert not store_in(place).paths(run).lease.exists()
    assert run_suite(suite, "--pack", "2") == 0
    assert outcomes(place, runs) == alone


@pytest.mark.slow
def test_packed_runs_killed_again_and_again_end_as_ones_never_killed(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = suite_in(workplace, profile={"epochs": 8, "train": 512, "test": 100})
    alone, place = alone_and(workplace, suite, monkeypatch)
    chance = random.Random(1)
    arguments = command("run", str(suite), "--pack", "3", "--threads", "1", "--device", "cpu")
    arguments += ["--checkpoint-seconds", "0.2"]
    kills = 0
    for _ in range(6):
        process = subprocess.Popen(arguments, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(3.0, 9.0))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills
    assert run_suite(suite, "--pack", "3") == 0
    assert outcomes(place, runs_of(suite)) == alone


def test_a_pack_is_a_number_or_auto(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "table9", "--pack", "many"])
    assert "'many' is neither a positive number nor auto" in capsys.readouterr().err


# The search for the fastest number, against a clock


class Clock:
    """Time that passes only by working: a step takes one second, of which a part overlaps with those of others."""

    def __init__(self, overlap: int) -> None:
        self.now, self.overlap, self.turns = 0.0, overlap, 0

    def work(self, steps: int = 10_000) -> Work:
        for _ in range(steps):
            self.turns += 1
            at_once = min(self.overlap, max(1, self.together))
            self.now += 1.0 / at_once
            yield
        return True

    together = 1


@pytest.mark.parametrize(("overlap", "expected"), [(1, 1), (3, 3)])
def test_auto_stops_where_one_more_gains_nothing(overlap: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, lines = Clock(overlap), list[str]()
    monkeypatch.setattr(packed.time, "perf_counter", lambda: clock.now)
    turns = Turns(None, CPU, lines.append)
    seconds = turns._seconds
    monkeypatch.setattr(turns, "_seconds", lambda some: setattr(clock, "together", len(some)) or seconds(some))
    while turns.room:
        turns.add(None, clock.work())  # type: ignore[arg-type]
    assert turns.width == expected
    assert f"{expected} at a time do {float(expected):.2f} times the work of one" in lines[0]
    before = clock.turns
    turns.advance()
    assert clock.turns - before == expected  # the one too many waits


def test_auto_starts_no_run_that_memory_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    free = [1000]
    monkeypatch.setattr(packed, "free_memory", lambda device: (free[0], 1000))

    def work() -> Work:
        free[0] -= 350
        while True:
            yield

    turns = Turns(None, CPU, lambda line: None)
    monkeypatch.setattr(turns, "_seconds", lambda some: 1.0)  # one more costs nothing: the best case
    while turns.room:
        turns.add(None, work())  # type: ignore[arg-type]
    assert len(turns) == 2  # a third would leave nothing
