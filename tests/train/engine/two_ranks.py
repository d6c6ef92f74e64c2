"""What each process of test_ranks.py does: the jobs named on its command line, in the group it is in.

It stands alone, as a launcher would start it: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT say who it is.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # alone, it is not collected by pytest

from imagenet import FOLDER, experiment, settings_in, training

from benchmark.errors import BenchmarkError, MissingInput
from benchmark.machine.ranks import Ranks, joined
from benchmark.paper.datasets import GENERATED_FOLDER
from benchmark.plan.experiment import Data, Experiment
from benchmark.train.classification.training import Training
from benchmark.train.settings import Stopped
from benchmark.train.trainer import record_from

NETWORK = """
from torch import nn

from benchmark.models.taps import Adapter, Tap

MODELS = {"plain": {}}


def build(name, classes):
    '''Without batch norm.'''
    return nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))


def adapter(network):
    '''Scores only.'''
    return Adapter({"logits": Tap("4")})
"""
METHOD = """
from methods.base import LOGITS, Losses, Method


class Noisy(Method):
    '''Scores under noise and random signs.'''

    taps = (LOGITS,)

    def losses(self, student, teacher, batch, moment):
        scores = student[LOGITS]
        signs = moment.integers(2, (len(scores), 1), scores.device) * 2 - 1
        return Losses({"noisy": (signs * scores + moment.normal_like(scores) - teacher[LOGITS]).square().mean()})
"""
# 21 images in batches of 8: the last batch is short, and an odd number of images is tested.
SMALL = replace(FOLDER, train=21, test=19)


def jobs() -> dict[str, Experiment]:
    """By name."""
    diffkd = {"diffkd": {"latent": 16, "nfe": 2}}
    return {
        # batch norm sees four images, whoever has them
        "shards": experiment(diffkd, teacher="resnet18", data=SMALL, per_device_batch=4, ema=0.9),
        # no batch norm anywhere, so that the whole batch may be shared as one
        "noise": experiment("noisy", teacher="resnet18", student="plain", data=replace(SMALL, train=20)),
        # a memory of all samples
        "memory": experiment({"crd": {"negatives": 8}}, teacher="resnet18", data=SMALL, per_device_batch=4),
        "device": experiment(
            "kd", teacher="resnet18", data=Data("generated", train=64, test=51), augmentation="crop-flip"
        ),
    }


def outcome(run: Training) -> dict[str, Any]:
    """What must agree, weights included."""
    record = record_from(run.advancing())
    return record.outcome() | {"processes": record.effective.processes}


def stopped_and_resumed(asked: Experiment, folder: Path, ranks: Ranks) -> dict[str, Any]:
    """Only the last rank is asked to stop, after the first step; all must write and go on from there."""
    settings = settings_in(folder, ranks=ranks)
    run = training(asked, settings)
    step = run.one_step

    def stopping(plan: Any) -> None:
        step(plan)
        if ranks.rank == ranks.world - 1:
            settings.stop.set()

    run.one_step = stopping  # type: ignore[method-assign]
    try:
        record_from(run.advancing())
        raise AssertionError("it did not stop")
    except Stopped:
        settings.stop.clear()
    return outcome(training(asked, settings))


def asymmetric(ranks: Ranks) -> str:
    """An error that only the last rank has is every rank's."""

    def fails_on_last() -> None:
        if ranks.rank == ranks.world - 1:
            raise MissingInput("only here", "nowhere")

    try:
        ranks.together(fails_on_last)
    except BenchmarkError as error:
        return f"{type(error).__name__}: {error.message}"
    return ""


def main() -> None:
    """Carry out the jobs and write what came of them."""
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    with joined("cpu") as ranks:
        found: dict[str, Any] = {}
        for name in names:
            asked, place = jobs()[name.removesuffix("-resumed")], folder / f"{name}-{ranks.world}"
            (place / "runs").mkdir(parents=True, exist_ok=True)
            if not (place / "runs" / GENERATED_FOLDER).exists() and ranks.leads:
                (place / "runs" / GENERATED_FOLDER).symlink_to(folder / GENERATED_FOLDER)
            ranks.told(None)
            if name.endswith("-resumed"):
                found[name] = stopped_and_resumed(asked, place, ranks)
            else:
                found[name] = outcome(training(asked, settings_in(place, ranks=ranks)))
        found["asymmetric"] = asymmetric(ranks)
        if ranks.leads:
            (folder / f"found-{ranks.world}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
