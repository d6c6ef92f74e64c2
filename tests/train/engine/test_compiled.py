"""The compiled step: the eager one's losses, draws and state; and a clean way back where it cannot be had."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small import settings_in
from torch._inductor.codecache import PyCodeCache

from benchmark.data.random_images import noise
from benchmark.models.registry import model
from benchmark.plan.experiment import Run
from benchmark.train.classification.training import Training
from benchmark.train.engine.compiled import worth_it
from benchmark.train.settings import Settings, Stopped
from benchmark.train.trainer import record_from
from benchmark.verify.exported_students import experiment

BATCH, IMAGES = 8, 20  # two full batches an epoch, and a short one


def run_in(folder: Path, method: Any = "diffkd") -> Run:
    path = folder / "teacher.pt"
    if not path.exists():
        torch.manual_seed(0)
        torch.save(model("resnet14").build(100).state_dict(), path)
    return Run(experiment(method, "resnet8", "resnet14", path, BATCH), 0)


def trained(folder: Path, where: str, **more: object) -> tuple[Training, list[str]]:
    lines: list[str] = []
    settings = settings_in(folder, lines=lines)
    store = replace(settings.store, results=folder / where / "results", runs=folder / where / "runs")
    training = Training(run_in(folder), noise(IMAGES), replace(settings, store=store, **more))  # type: ignore[arg-type]
    record_from(training.advancing())
    return training, lines


def no_compiler(*arguments: object, **more: object) -> None:
    raise RuntimeError("InvalidCxxCompiler: no working C++ compiler\nmore words")


def test_without_a_compiler_a_run_is_eager_and_says_why(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eager, _ = trained(workplace, "eager", compile="never")
    monkeypatch.setattr(torch, "compile", lambda function, **options: no_compiler)
    fallen, lines = trained(workplace, "fallen", compile="always")
    assert any("runs eagerly, because compiling it failed" in line and "no working C++" in line for line in lines)
    records = [t.settings.store.read(t.run_id) for t in (eager, fallen)]
    assert records[0] and records[1]
    assert records[0].outcome() == records[1].outcome()  # the attempt left no trace in state or generator
    assert records[1].effective.step == "eager"
    assert records[1].asked.compile == "always"


def test_a_compiled_step_that_is_wrong_is_not_used(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(function, **options):  # type: ignore[no-untyped-def]
        def called(*arguments):  # type: ignore[no-untyped-def]
            found = function(*arguments)
            return (found[0] * 1.01, *found[1:]) if isinstance(found, tuple) else found

        return called

    monkeypatch.setattr(torch, "compile", wrong)
    _, lines = trained(workplace, "wrong", compile="always")
    assert any("the compiled loss is" in line for line in lines)


def test_what_is_drawn_beforehand_is_what_would_be_drawn(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The same functions without a compiler: nothing may differ but where the draws are made.
    eager, _ = trained(workplace, "eager", compile="never")
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    drawn, _ = trained(workplace, "drawn", compile="always")
    records = [t.settings.store.read(t.run_id) for t in (eager, drawn)]
    assert records[0] and records[1]
    assert records[1].effective.step == "compiled"
    assert records[0].outcome() == records[1].outcome()


def test_a_run_that_began_compiled_goes_on_compiled_or_says_so(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    lines: list[str] = []
    settings = settings_in(workplace, lines=lines)

    def stopped(settings: Settings) -> Training:
        settings.stop.set()
        training = Training(run_in(workplace), noise(IMAGES), settings)
        with pytest.raises(Stopped):
            record_from(training.advancing())
        return training

    stopped(replace(settings, compile="always"))
    assert stopped(replace(settings, compile="auto")).stepper.kind == "compiled"  # far too short to be worth it
    assert not any("resumes" in line for line in lines)
    assert stopped(replace(settings, compile="never")).stepper.kind == "eager"
    assert any("began compiled and resumes eager" in line for line in lines)


def test_only_long_runs_are_worth_a_compilation(workplace: Path) -> None:
    short = run_in(workplace).experiment
    assert short.recipe is not None
    long = replace(short, recipe=short.recipe.model_copy(update={"epochs": 240, "batch": 64}))
    assert not worth_it(short, "cpu")[0]
    assert worth_it(long, "cpu")[0]


# Draws, side networks and a loop: two denoising steps are compiled as five are, in a third of the time.
COMPILED = {"none": "none", "kd": "kd", "diffkd": {"diffkd": {"nfe": 2}}}


@pytest.mark.slow
@pytest.mark.parametrize("method", COMPILED.values(), ids=COMPILED)
def test_compiled_losses_are_the_eager_ones(method: Any, workplace: Path) -> None:
    data = noise(IMAGES)
    plan = data.epoch_plan(0, 0)
    found: dict[str, list[dict[str, float]]] = {}
    for kind in ("never", "always"):
        training = Training(run_in(workplace, method), data, settings_in(workplace, compile=kind))
        steps = training.advancing()
        for _ in range(training.steps):
            next(steps)
            found.setdefault(kind, []).append(training.meter.means())
        assert training.stepper.kind == ("compiled" if kind == "always" else "eager")
        assert len(plan) == IMAGES
    for eager, fast in zip(found["never"], found["always"], strict=True):
        assert fast == pytest.approx(eager, rel=1e-4)
    programs = [Path(str(made.__file__)).read_text() for made in PyCodeCache.modules]
    kernels = [found for program in programs for found in re.findall(r"(cpp\w+) = .*cpp_pybinding\(\[(.*?)\]", program)]
    rectifiers = [given for name, given in kernels if "relu" in name or "threshold" in name]
    assert rectifiers
    assert not [given for given in rectifiers if "bool*" in given]  # no mask is kept for the backward pass


@pytest.mark.slow
def test_any_number_of_runs_of_a_process_are_compiled(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch._dynamo.config.recompile_limit", 1)
    run = run_in(workplace, "kd")
    for repetition in range(3):
        again = Training(replace(run, repetition=repetition), noise(IMAGES), settings_in(workplace, compile="always"))
        next(again.advancing())
        assert again.stepper.kind == "compiled"
