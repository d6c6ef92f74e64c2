"""Training as one object: stopped at every step and resumed, and what a recipe may ask of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from small import data_of, plan_of, run_suite, settings_in, store_in, write_suite

from benchmark.errors import MissingInput, UsageError
from benchmark.plan.experiment import Experiment, Run
from benchmark.records.store import Record
from benchmark.train.classification.training import Training
from benchmark.train.settings import Settings, Stopped
from benchmark.train.trainer import record_from

OWN = """
from methods.base import LOGITS, Losses, Method


class Confident(Method):
    '''No teacher: the student's own entropy is made small.'''

    taps = ()

    def losses(self, student, teacher, batch, moment):
        scores = student[LOGITS].log_softmax(1)
        return Losses({'entropy': -0.1 * (scores.exp() * scores).sum(1).mean()})
"""
METHODS = ("none", "kd", "diffkd", "crd", "vid", "rkd", "reviewkd", "srrl", "ofd")
QUICK = {"none", "diffkd", "crd"}  # nothing but the student; noise and side networks; memories
STOPPED = [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in METHODS]


class Always(Event):
    """A stop that is asked for at every step."""

    def is_set(self) -> bool:
        return True


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Run]]:
    """A folder with a trained teacher, and a run of each method that depends on it."""
    folder = tmp_path_factory.mktemp("training")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("BENCHMARK_OFFLINE", "1")
        rows: dict[str, dict[str, Any]] = {name: {"method": name} for name in METHODS}
        suite = write_suite(folder / "training.yaml", rows)
        assert run_suite(suite, "--only", "kd") == 0
        runs = {run.experiment.method.name: run for run in plan_of(suite).runs if run.experiment.student == "resnet8"}
    return folder, runs


def settings_at(folder: Path, where: str, **more: Any) -> Settings:
    """Records and working states of their own, the teacher's shared."""
    settings = settings_in(folder, **more)
    runs = folder / where
    runs.mkdir(exist_ok=True)
    for shared in ("work", "records", "teachers"):
        if not (runs / shared).exists():
            (runs / shared).mkdir()
    for kind in ("work", "records/smoke/generated/resnet14"):
        for source in (folder / "runs" / kind).iterdir():
            target = runs / kind / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.symlink_to(source, target_is_directory=True)
    return replace(settings, store=replace(settings.store, runs=runs))


def carried_out(run: Run, settings: Settings) -> Record:
    return record_from(Training(run, data_of(run.experiment, settings), settings).advancing())


def changed(run: Run, **changes: Any) -> Run:
    experiment: Experiment = replace(run.experiment, **changes)
    return Run(experiment, run.repetition)


@pytest.mark.parametrize("name", STOPPED)
def test_a_run_stopped_after_every_step_ends_as_one_never_stopped(
    name: str, place: tuple[Path, dict[str, Run]], workplace: Path
) -> None:
    folder, runs = place
    # Another identity for each test, so that no working state is shared; three steps an epoch, the last one short.
    run = changed(runs[name], data=replace(runs[name].experiment.data, train=38, test=50))
    whole = carried_out(run, settings_at(folder, f"whole-{name}"))
    stopping = settings_at(folder, f"stopped-{name}", stop=Always())
    stops = 0
    while True:
        try:
            record = carried_out(run, stopping)
            break
        except Stopped:
            stops += 1
    assert stops == 6
    assert record.outcome() == whole.outcome()
    files = [settings_at(folder, f"{kind}-{name}").store.paths(run) for kind in ("whole", "stopped")]
    assert files[0].curves.read_text() == files[1].curves.read_text()
    states = [torch.load(paths.student, weights_only=True) for paths in files]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_method_without_a_teacher_is_asked_for_its_loss(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workplace / "extra").mkdir()
    (workplace / "extra" / "confident.py").write_text(OWN)
    monkeypatch.setenv("BENCHMARK_EXTRA", str(workplace / "extra"))
    suite = write_suite(workplace / "alone.yaml", {"Confident": {"method": "confident"}})
    assert run_suite(suite) == 0
    (run,) = plan_of(suite).runs  # no teacher is trained for it
    record = store_in(workplace).read(run)
    assert record is not None
    assert record.tracked["entropy"] > 0
    assert record.tracked["total"] == pytest.approx(record.tracked["task"] + record.tracked["entropy"], rel=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"mixup": 0.8},
        {"iterations": 100},
        {"augmentation": "inception"},
        {"randaugment": "rand-m9"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_a_recipe_that_would_be_carried_out_in_part_is_refused(
    settings: dict[str, Any], place: tuple[Path, dict[str, Run]], workplace: Path
) -> None:
    folder, runs = place
    recipe = runs["none"].experiment.recipe
    assert recipe is not None
    run = changed(runs["none"], recipe=recipe.model_copy(update=settings))
    with pytest.raises(UsageError, match=next(iter(settings))):
        carried_out(run, settings_at(folder, "refused"))


def test_a_student_may_start_from_given_weights(place: tuple[Path, dict[str, Run]], workplace: Path) -> None:
    folder, runs = place
    settings = settings_at(folder, "given")
    first = carried_out(runs["none"], settings)
    weights = settings.store.paths(runs["none"]).student
    run = changed(runs["none"], student_weights=str(weights))
    training = Training(run, data_of(run.experiment, settings), settings)
    state = torch.load(weights, weights_only=True)
    begun = training.parts.distiller.student.network.state_dict()
    assert all(torch.equal(state[key], begun[key]) for key in state)
    assert record_from(training.advancing()).weights_sha256 != first.weights_sha256
    with pytest.raises(MissingInput, match="nowhere"):
        carried_out(changed(runs["none"], student_weights="nowhere.pt"), settings)


def test_bf16_is_carried_out_and_recorded(place: tuple[Path, dict[str, Run]], workplace: Path) -> None:
    folder, runs = place
    run = changed(runs["diffkd"], precision="bf16")
    record = carried_out(run, settings_at(folder, "bf16"))
    assert record.status == "done"
    assert record.effective.precision == "bf16"
    assert record.outcome() != carried_out(runs["diffkd"], settings_at(folder, "fp32")).outcome()


def test_clipped_gradients_change_the_outcome(place: tuple[Path, dict[str, Run]], workplace: Path) -> None:
    folder, runs = place
    recipe = runs["kd"].experiment.recipe
    assert recipe is not None
    run = changed(runs["kd"], recipe=recipe.model_copy(update={"clip_grad": 0.01}))
    clipped = carried_out(run, settings_at(folder, "clipped"))
    assert clipped.weights_sha256 != carried_out(runs["kd"], settings_at(folder, "unclipped")).weights_sha256
