"""A task is one line in the table of tasks and one folder of `benchmark/train/`: nothing else must know it."""

from __future__ import annotations

from pathlib import Path

import pytest
from small import record_of, run_suite, runs_of, write_suite

import benchmark.train
from benchmark.paper.honoured import CLASSIFICATION
from benchmark.paper.tasks import TASKS, Task

TRAINER = """
from benchmark.errors import CannotServe
from benchmark.records.store import Record
from benchmark.train.outcome import asked_and_found


class Trainer:
    def __init__(self, settings):
        self.settings = settings

    def train(self, run):
        if run.experiment.method.name == "kd":
            raise CannotServe("sorting has no classes")
        yield
        found = {"last": {"sorted": 42.0}, "best": {"sorted": 43.0}}
        record = Record(status="done", **found, **asked_and_found(run, self.settings))
        self.settings.store.write(run, record)
        return record

    def evaluate(self, run):
        raise NotImplementedError

    def close(self):
        self.settings.say("the images are put away")
"""


@pytest.fixture
def sorting(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a task that exists in this test alone."""
    monkeypatch.setitem(TASKS, "sorting", Task("sorting", "sorted", "share", "sorts", "image_size", CLASSIFICATION))  # type: ignore[misc]
    folder = workplace / "tasks" / "sorts"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "trainer.py").write_text(TRAINER)
    monkeypatch.setattr(benchmark.train, "__path__", [*benchmark.train.__path__, str(folder.parent)])
    return "sorting"


def test_a_new_task_runs_from_its_line_and_its_folder(
    sorting: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {"Plain": {"method": "none", "metric": "sorted"}, "KD": {"method": "kd", "metric": "sorted"}}
    suite = write_suite(workplace / "mine.yaml", rows, {"task": sorting, "teacher": "resnet14"})
    assert run_suite(suite, "--only", "Plain") == 0
    shown = capsys.readouterr().out
    assert "resnet8/none #0: share 42.00 (best 43.00)" in shown
    assert "the images are put away" in shown
    assert record_of(runs_of(suite)["Plain"], workplace).experiment.task == sorting


def test_a_pair_that_its_trainer_cannot_serve_is_skipped(sorting: str, workplace: Path) -> None:
    pair = {"task": sorting, "teacher": {"model": "resnet14", "weights": "any.pt"}}
    suite = write_suite(workplace / "mine.yaml", {"KD": {"method": "kd", "metric": "sorted"}}, pair)
    assert run_suite(suite) == 0
    record = record_of(runs_of(suite)["KD"], workplace)
    assert (record.status, record.reason) == ("skipped", "sorting has no classes")
