"""Runs that take turns: each has the result that it would have alone, whatever happens to the others."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Forked
from small import record_of, run_suite, runs_of, store_in, write_suite

from benchmark.cli.parser import main
from benchmark.launch import packed
from benchmark.launch.packed import Advance, Turns
from benchmark.models.registry import model
from benchmark.plan.experiment import Run

CPU = torch.device("cpu")
METHODS = ("none", "kd", "diffkd", "crd")


def suite_in(folder: Path, methods: tuple[str, ...] = METHODS, **more: Any) -> Path:
    """Write a suite with a row for each method and a teacher with given weights."""
    weights = more.pop("teacher", folder / "teacher.pt")
    if not weights.exists():
        torch.manual_seed(3)
        torch.save(model("resnet14").build(100).state_dict(), weights)
    rows = {name: {"method": name} for name in methods}
    setting = {"teacher": {"model": "resnet14", "weights": str(weights)}}
    return write_suite(folder / "packed.yaml", rows, setting=setting, **more)


def outcomes(folder: Path, runs: dict[str, Run]) -> dict[str, Any]:
    return {row: record_of(run, folder).outcome() for row, run in runs.items()}


@dataclass(frozen=True)
class Alone:
    """A suite, and the results of its runs one after the other."""

    suite: Path
    runs: dict[str, Run]
    outcomes: dict[str, Any]

    def are_those_in(self, folder: Path, *rows: str) -> bool:
        """Return True if these rows, or all rows, have the same results in a folder."""
        asked = {row: run for row, run in self.runs.items() if not rows or row in rows}
        return outcomes(folder, asked) == {row: self.outcomes[row] for row in asked}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, generated_once: Callable[[], object]) -> Alone:
    folder = tmp_path_factory.mktemp("alone")
    suite = suite_in(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmark.data.generated.generate", generated_once)
        patch.chdir(folder)
        patch.setenv("BENCHMARK_OFFLINE", "1")
        patch.setenv("BENCHMARK_DATA", str(folder / "no-data"))
        assert run_suite(suite) == 0
    return Alone(suite, runs_of(suite), outcomes(folder, runs_of(suite)))


TWO = ("--only", "kd", "--only", "diffkd", "--pack", "2")


@pytest.mark.parametrize("pack", ["3", "auto"])
def test_a_packed_run_equals_the_same_run_alone(pack: str, alone: Alone, workplace: Path) -> None:
    assert run_suite(alone.suite, "--pack", pack) == 0
    assert alone.are_those_in(workplace)
    asked = {record_of(run, workplace).asked.pack for run in alone.runs.values()}
    assert asked == {3 if pack == "3" else "auto"}


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


def test_what_becomes_of_one_run_leaves_the_others_alone(
    alone: Alone, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    methods = ("diverging", "kd", "failing", "refusing", "diffkd")
    mixed = suite_in(workplace, methods, teacher=alone.suite.with_name("teacher.pt"))
    runs = runs_of(mixed)
    assert run_suite(mixed, "--pack", "5") == 1
    assert alone.are_those_in(workplace, "kd", "diffkd")
    assert record_of(runs["diverging"], workplace).status == "diverged"
    assert record_of(runs["refusing"], workplace).status == "skipped"
    assert store_in(workplace).read(runs["failing"]) is None
    assert "a mistake" in store_in(workplace).paths(runs["failing"]).failure.read_text()


def test_too_little_memory_beside_others_waits_for_them(
    alone: Alone, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.train.classification.training import Training

    original, failed = Training.one_step, []

    def short(self: Training, plan: Any) -> None:
        if self.run_id.experiment.method.name == "diffkd" and not failed:
            failed.append(True)
            raise torch.OutOfMemoryError("for a test")
        original(self, plan)

    monkeypatch.setattr(Training, "one_step", short)
    assert run_suite(alone.suite, *TWO) == 0
    assert failed
    assert alone.are_those_in(workplace, "kd", "diffkd")


def test_a_polite_stop_reaches_every_run_at_work(
    alone: Alone, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.train.classification.training import Training

    original, steps = Training.one_step, []

    def counted(self: Training, plan: Any) -> None:
        original(self, plan)
        steps.append(self.run_id)
        if len(steps) == 4:
            self.settings.stop.set()

    monkeypatch.setattr(Training, "one_step", counted)
    assert run_suite(alone.suite, *TWO) == 130
    for row in ("kd", "diffkd"):
        assert store_in(workplace).paths(alone.runs[row]).checkpoint.exists()
        assert not store_in(workplace).paths(alone.runs[row]).lease.exists()
    assert run_suite(alone.suite, *TWO) == 0
    assert alone.are_those_in(workplace, "kd", "diffkd")


@pytest.mark.slow
def test_packed_runs_killed_again_and_again_end_as_ones_never_killed(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = suite_in(workplace, profile={"epochs": 8, "train": 128})
    runs = runs_of(suite)
    assert run_suite(suite) == 0
    alone = outcomes(workplace, runs)
    seconds = sum(record_of(run, workplace).seconds for run in runs.values())
    place = workplace / "again"
    place.mkdir()
    monkeypatch.chdir(place)
    chance = random.Random(1)
    arguments = ["run", str(suite), "--pack", "3", "--threads", "1", "--device", "cpu", "--checkpoint-seconds", "0.1"]
    for kills in range(6):  # each after something new is saved, and before long: the runs must not end by themselves
        process, before = Forked(arguments, place / "log.txt"), saved(place)
        try:
            while process.poll() is None and saved(place) == before:
                time.sleep(0.005)
            process.wait(chance.uniform(0.0, seconds / 12))
        finally:
            assert process.kill() == -signal.SIGKILL, f"ended after {kills} kills:\n{(place / 'log.txt').read_text()}"
    assert run_suite(suite, "--pack", "3") == 0
    assert outcomes(place, runs) == alone
    assert sum(record_of(run, place).interruptions for run in runs.values()) >= 6


def saved(folder: Path) -> set[tuple[str, int]]:
    """Return every checkpoint in a folder with the time when it was written."""
    found = set()
    for path in folder.rglob("checkpoint.pt"):
        with contextlib.suppress(FileNotFoundError):  # for a moment, while the next one is put in its place
            found.add((str(path), path.stat().st_mtime_ns))
    return found


def test_a_pack_is_a_number_or_auto(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "table9", "--pack", "many"])
    assert "'many' is neither a positive number nor auto" in capsys.readouterr().err


# The search for the fastest number, against a clock


class Clock:
    """A clock on which a step takes one second, of which a part overlaps with the steps of others."""

    def __init__(self, overlap: int) -> None:
        self.now, self.overlap, self.turns = 0.0, overlap, 0

    def work(self, steps: int = 10_000) -> Advance:
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
    assert f"{expected} runs at a time train {float(expected):.2f} times as fast" in lines[0]
    before = clock.turns
    turns.advance()
    assert clock.turns - before == expected  # the one too many waits


def test_auto_starts_no_run_that_memory_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    free = [1000]
    monkeypatch.setattr(packed, "free_memory", lambda device: (free[0], 1000))

    def work() -> Advance:
        free[0] -= 350
        while True:
            yield

    turns = Turns(None, CPU, lambda line: None)
    monkeypatch.setattr(turns, "_seconds", lambda some: 1.0)  # one more costs nothing: the best case
    while turns.room:
        turns.add(None, work())  # type: ignore[arg-type]
    assert len(turns) == 2  # a third would leave nothing
