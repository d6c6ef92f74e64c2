"""The state of a dense run in a checkpoint, in MMEngine's layout, and resuming from it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmark.train import checkpoint
from benchmark.train.outcome import Curves

if TYPE_CHECKING:
    from benchmark.train.dense.training import DenseTraining


def state_of(training: DenseTraining, runner: Any, step: int) -> dict[str, Any]:
    """Return what a checkpoint holds. This project's own part is under `benchmark`, the rest is MMEngine's layout."""
    return {
        "meta": {"iter": step, "epoch": step // len(training.order)},
        "state_dict": runner.model.state_dict(),
        "optimizer": runner.optim_wrapper.state_dict(),
        "param_schedulers": [scheduler.state_dict() for scheduler in runner.param_schedulers],
        "benchmark": {
            "identity": training.run_id.experiment.identity,
            "repetition": training.run_id.repetition,
            "teacher_sha256": training.parts.teacher_facts.get("weights_sha256"),
            "generator": training.moment.generator.get_state(),
            "meter": training.meter.state(),
            "rows": training.curves.rows,
            "best": training.curves.best,
            "best_row": training.curves.best_row,
            "seconds": training.seconds,
            "training_seconds": training.training_seconds,
        },
    }


def resume(training: DenseTraining, runner: Any) -> int:
    """Load the newest usable checkpoint into the runner, if there is one. Return the number of steps done."""
    fresh: dict[str, Any] | None = None
    step: int | None = None
    while step is None:
        found = checkpoint.load(training.paths.checkpoint, training.run_id, training.settings.say)
        if found is None:
            break
        if fresh is None and not found.sealed:
            fresh = copy.deepcopy(state_of(training, runner, 0))
        step = _restored(training, runner, found)
    if step is None or found is None:
        if fresh is not None:  # a damaged checkpoint may have been read in part
            _restore(training, runner, fresh)
        return 0
    if not found.sealed:
        training.settings.say(checkpoint.renewed(found))
        training.save(runner, step)
    if step < training.steps:
        training.settings.say(f"{training.run_id.label}: resuming from step {step} of {training.steps}")
    return step


def _restored(training: DenseTraining, runner: Any, found: checkpoint.UsableCheckpoint) -> int | None:
    """Return the steps done in a checkpoint that fits this run, or None if the checkpoint was set aside."""
    try:
        return _restore(training, runner, found.state)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        checkpoint.refused(found, error, training.settings.say)
        return None


def _restore(training: DenseTraining, runner: Any, state: Mapping[str, Any]) -> int:
    own = state["benchmark"]
    checkpoint.check_teacher(
        training.run_id,
        own.get("teacher_sha256"),
        training.parts.teacher_facts.get("weights_sha256"),
        training.paths.work,
    )
    runner.model.load_state_dict(state["state_dict"])
    runner.optim_wrapper.load_state_dict(state["optimizer"])
    for scheduler, saved in zip(runner.param_schedulers, state["param_schedulers"], strict=True):
        scheduler.load_state_dict(saved)
    training.moment.generator.set_state(own["generator"])
    training.meter.load(own["meter"])
    training.curves = Curves(own["rows"], own["best"], own["best_row"])
    training.seconds, training.training_seconds = own["seconds"], own["training_seconds"]
    step: int = state["meta"]["iter"]
    training.model.step = step
    return step
