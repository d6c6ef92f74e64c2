"""What the loop costs beside the step itself."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import pytest
import torch
from small import settings_in

from benchmark.data.random_images import noise
from benchmark.models.registry import model
from benchmark.plan.experiment import Run
from benchmark.train.classification.training import Training
from benchmark.verify.exported_students import experiment

BATCH, STEPS = 64, 60


def test_the_loop_costs_less_than_two_per_cent_of_a_step(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own time, with nothing to do in each step, against the bare step of networks smaller than any in a table."""
    torch.save(model("resnet14").build(100).state_dict(), workplace / "teacher.pt")
    run = Run(experiment("kd", "resnet8", "resnet14", workplace / "teacher.pt", BATCH), 0)
    training = Training(run, noise(BATCH * STEPS), settings_in(workplace))
    plan = training.data.epoch_plan(0, 0)

    def seconds(call: object) -> float:
        began = time.perf_counter()
        call()  # type: ignore[operator]
        return time.perf_counter() - began

    bare = statistics.median(seconds(lambda: training.one_step(plan)) for _ in range(7))
    monkeypatch.setattr(Training, "one_step", lambda self, plan: None)
    steps = training.advancing()
    next(steps)
    # Twenty at once, because every twentieth step does more; the quicker of two, for a busy machine.
    rounds = sorted(seconds(lambda: [next(steps) for _ in range(20)]) / 20 for _ in range(2))
    assert rounds[0] < 0.02 * bare, f"{1e6 * rounds[0]:.0f} us a step beside {1e3 * bare:.1f} ms"
