"""The engine's step against the straightforward one: the same losses, step after step, from the same images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from reference.eager_step import EagerStep, loader
from small import settings_in

from benchmark.data.random_images import noise
from benchmark.models.registry import model
from benchmark.plan.experiment import Run
from benchmark.train.classification.training import Training
from benchmark.verify.exported_students import experiment

BATCH, STEPS = 8, 3


def test_the_losses_are_those_of_a_straightforward_step(workplace: Path) -> None:
    torch.save(model("resnet14").build(100).state_dict(), workplace / "teacher.pt")
    data = noise(BATCH * STEPS)
    run = Run(experiment("diffkd", "resnet8", "resnet14", workplace / "teacher.pt", BATCH), 0)
    training = Training(run, data, settings_in(workplace))
    plain = EagerStep(training)
    plan = data.epoch_plan(0, 0)
    seen: list[dict[str, torch.Tensor]] = []
    training.meter.add = lambda values, tracked: seen.append({n: v.detach() for n, v in values.items()})  # type: ignore[assignment,misc]
    for step, (inputs, targets) in enumerate(loader(data.train, plan, BATCH, workers=0)):
        batch = data.batch(plan, step * BATCH, BATCH)
        assert torch.equal(inputs, batch.inputs) and torch.equal(targets, batch.targets)
        training.one_step(plan)
        training.step += 1
        expected = plain.step(inputs, targets)
        assert set(expected) == set(seen[-1])
        # What is fused or kept in another order rounds differently, and each update carries it on.
        tolerance = 1e-6 if step == 0 else 1e-4
        for name, value in expected.items():
            assert float(seen[-1][name]) == pytest.approx(float(value), rel=tolerance), (step, name)
