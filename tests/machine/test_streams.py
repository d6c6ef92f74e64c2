"""Random streams: those common to all experiments, those of a method, and the global generator, which is left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small import data_of, plan_of, run_suite, settings_in, write_suite
from torch import Tensor

from benchmark.machine.streams import generator, initialising, seed_of
from benchmark.plan.experiment import Run
from benchmark.train.classification.training import Training


def test_seeds_are_fixed_for_ever() -> None:
    # Records name no seed: the repetition is all there is. These numbers must not change.
    assert seed_of("init", 0, "resnet8") == 3156828343591982393
    assert seed_of("data", 1, 5) == 3224702117553638292
    assert seed_of("method", 0, "0123456789abcdef") == 873940776588713815


def test_streams_repetitions_and_epochs_differ() -> None:
    seeds = [seed_of(name, r, e) for name in ("init", "data", "augment", "method") for r in range(5) for e in range(50)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_generator_repeats_itself_and_touches_no_other() -> None:
    before = torch.get_rng_state()
    draws = [torch.rand(3, generator=generator("method-noise", 0, "x")) for _ in range(2)]
    assert torch.equal(*draws)
    assert torch.equal(torch.get_rng_state(), before)


def test_initialising_lends_the_global_generator_and_gives_it_back() -> None:
    before = torch.get_rng_state()
    with initialising("init", 0, "resnet8"):
        first = torch.rand(3)
    with pytest.raises(ZeroDivisionError), initialising("init", 0, "resnet8"):
        assert torch.equal(torch.rand(3), first)
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), before)
    with initialising("init", 1, "resnet8"):
        assert not torch.equal(torch.rand(3), first)


@pytest.fixture
def trainings(workplace: Path) -> Any:
    """Return a training for each method, built but not begun, whose teacher is already trained."""
    methods = ("none", "kd", "diffkd", "crd")
    suite = write_suite(workplace / "streams.yaml", {name: {"method": name} for name in methods})
    assert run_suite(suite, "--only", "kd") == 0
    runs = {run.experiment.method.name: run for run in plan_of(suite).runs if run.experiment.student == "resnet8"}

    def build(name: str, repetition: int = 0, **changes: Any) -> Training:
        run = Run(replace(runs[name].experiment, **changes), repetition)
        settings = settings_in(workplace)
        return Training(run, data_of(run.experiment, settings), settings)

    return build


def student(training: Training) -> dict[str, Tensor]:
    return dict(training.parts.distiller.student.network.state_dict())


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_all_experiments_start_from_the_same_student(trainings: Any) -> None:
    reference = student(trainings("none"))
    assert all(equal(student(trainings(name)), reference) for name in ("kd", "diffkd", "crd"))
    assert not equal(student(trainings("none", repetition=1)), reference)


def test_all_experiments_see_the_same_images_in_the_same_order(trainings: Any) -> None:
    batches = []
    for name in ("none", "diffkd"):
        training = trainings(name)
        plan = training.data.epoch_plan(0, 1)
        batches.append(training.data.batch(plan, 16, 16))
    assert torch.equal(batches[0].inputs, batches[1].inputs)
    assert torch.equal(batches[0].indices, batches[1].indices)
    other = trainings("none").data
    assert not torch.equal(other.batch(other.epoch_plan(1, 1), 16, 16).indices, batches[0].indices)
    assert not torch.equal(other.batch(other.epoch_plan(0, 2), 16, 16).indices, batches[0].indices)


def test_a_methods_own_draws_follow_the_identity(trainings: Any) -> None:
    def side(training: Training) -> dict[str, Tensor]:
        return dict(training.parts.distiller.method.state_dict())

    reference = trainings("diffkd")
    assert equal(side(trainings("diffkd")), side(reference))
    other = trainings("diffkd", precision="bf16")  # another identity with the same side networks
    assert not equal(side(other), side(reference))
    made = (reference, trainings("diffkd"), other)
    draws = [torch.rand(4, generator=training.parts.moment.generator) for training in made]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
