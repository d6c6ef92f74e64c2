"""What a run's curves tell beside its outcome: gradients and norms by epoch, at no cost in bits."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from small import settings_in
from torch import nn

from benchmark.data.random_images import noise
from benchmark.models.registry import model
from benchmark.plan.experiment import Run
from benchmark.records.store import Record
from benchmark.train.classification.training import Training
from benchmark.train.engine import telemetry
from benchmark.train.settings import Settings, Stopped
from benchmark.train.trainer import record_from
from benchmark.verify.exported_students import experiment

BATCH, IMAGES, EPOCHS = 8, 20, 2  # two full batches an epoch, and a short one


class AtEveryStep(Event):
    """A stop that is asked for at every step."""

    def is_set(self) -> bool:
        return True


def run_in(folder: Path, method: str, **recipe: Any) -> Run:
    path = folder / "teacher.pt"
    if not path.exists():
        torch.manual_seed(0)
        torch.save(model("resnet14").build(100).state_dict(), path)
    asked = experiment(method, "resnet8", "resnet14", path, BATCH)
    assert asked.recipe is not None
    return Run(replace(asked, recipe=asked.recipe.model_copy(update={"epochs": EPOCHS, **recipe})), 0)


def settings_at(folder: Path, **more: Any) -> Settings:
    folder.mkdir(exist_ok=True)
    return settings_in(folder, **more)


def trained(run: Run, settings: Settings) -> Record:
    """To the end, however often it stops."""
    while True:
        try:
            return record_from(Training(run, noise(IMAGES), settings).advancing())
        except Stopped:
            continue


def rows(run: Run, settings: Settings) -> list[dict[str, float]]:
    """The telemetry in a run's curves, by name."""
    with settings.store.paths(run).curves.open() as file:
        return [
            {name.removeprefix("telemetry."): float(row[name]) for name in row if name.startswith("telemetry.")}
            for row in csv.DictReader(file)
        ]


def weights(run: Run, settings: Settings) -> dict[str, torch.Tensor]:
    paths = settings.store.paths(run)
    files = [path for path in (paths.student, paths.side_networks) if path.exists()]
    return {f"{path.name}/{key}": value for path in files for key, value in torch.load(path, weights_only=True).items()}


@pytest.mark.parametrize("method", ["none", "kd", "diffkd", "crd", "kdiffusion"])
def test_telemetry_moves_no_bit_of_a_run_and_an_interruption_none_of_it(
    method: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_in(workplace, method)
    told, stopped, silent = (settings_at(workplace / name) for name in ("told", "stopped", "silent"))
    stopped.stop = AtEveryStep()
    record = trained(run, told)
    assert trained(run, stopped).outcome() == record.outcome()
    assert told.store.paths(run).curves.read_text() == stopped.store.paths(run).curves.read_text()
    monkeypatch.setattr(telemetry, "sampled", lambda *given: {})
    assert trained(run, silent).outcome() == record.outcome()
    expected = weights(run, silent)
    for settings in (told, stopped):
        found = weights(run, settings)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)

    assert rows(run, silent) == [{}] * EPOCHS
    terms = {name for name in record.tracked if f"gradient.{name}" in rows(run, told)[0]}
    assert "task" in terms
    for row in rows(run, told):
        assert set(row) == {*(f"gradient.{term}" for term in terms), "norm.student", "norm.side_networks"}
        assert row["gradient.task"] > 0 and row["norm.student"] > 0
        assert (row["norm.side_networks"] > 0) == (method not in ("none", "kd"))
    if method == "diffkd":
        assert rows(run, told)[0]["gradient.feature.distillation"] > 0
        assert rows(run, told)[0]["gradient.feature.diffusion"] == 0, "it trains the side networks alone"


def test_the_norm_of_a_terms_gradient_is_what_its_own_backward_pass_leaves() -> None:
    student = nn.Linear(3, 2)
    values = student(torch.ones(4, 3)).square()
    elsewhere = torch.ones(1, requires_grad=True)
    terms = {"a": values.sum(), "b": values.mean(), "constant": torch.tensor(2.0), "elsewhere": elsewhere.sum()}
    found = telemetry.gradients(terms, student)
    assert student.weight.grad is None and elsewhere.grad is None
    assert (found["gradient.constant"], found["gradient.elsewhere"]) == (0, 0)
    for name in ("a", "b"):
        student.zero_grad()
        terms[name].backward(retain_graph=True)
        assert student.weight.grad is not None and student.bias.grad is not None
        whole = torch.cat([student.weight.grad.flatten(), student.bias.grad])
        assert found[f"gradient.{name}"] == pytest.approx(float(whole.norm()))


@pytest.mark.parametrize(("limit", "share"), [(1e-3, 1.0), (1e6, 0.0), (None, None)])
def test_clipped_steps_are_counted_where_the_recipe_clips(
    limit: float | None, share: float | None, workplace: Path
) -> None:
    run = run_in(workplace, "none", clip_grad=limit)
    whole, stopped = settings_at(workplace / "whole"), settings_at(workplace / "stopped", stop=AtEveryStep())
    for settings in (whole, stopped):
        trained(run, settings)
        assert [row.get("clipped") for row in rows(run, settings)] == [share] * EPOCHS
