"""One detection or segmentation run by MMEngine's Runner, from the first step or its checkpoint to its record."""

from __future__ import annotations

import contextlib
import copy
import math
import random
import time
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from benchmark.errors import Diverged
from benchmark.machine.files import sweep_partials, write_atomically
from benchmark.machine.streams import generator
from benchmark.models import openmmlab
from benchmark.paper.recipe import Recipe
from benchmark.paper.tasks import TASKS
from benchmark.plan.experiment import Run
from benchmark.records.store import Record, curves_csv
from benchmark.train import checkpoint, honouring, precision
from benchmark.train.dense.task import task
from benchmark.train.first_use import held
from benchmark.train.meter import Meter
from benchmark.train.outcome import Curves, asked_and_found, record_of, rounded
from benchmark.train.settings import CHECK_EVERY, HISTOGRAMS, Progress, Settings, Stopped
from methods.base import Moment


class DenseTraining:
    """All state of one run. `run` carries it to its record.

    MMEngine's Runner trains and evaluates; what is kept of it, and when, is decided here, as for classification:
    checkpoints in MMEngine's layout at any step, atomic, the one before kept; one row of curves an evaluation.
    """

    def __init__(self, run: Run, settings: Settings) -> None:
        from benchmark.train.dense.feeding import Order
        from benchmark.train.dense.model import Distilling
        from benchmark.train.dense.parts import assembled

        experiment = run.experiment
        assert experiment.recipe is not None
        self.run_id, self.settings, self.recipe = run, settings, experiment.recipe
        self.task = task(experiment.task)
        self.device = torch.device(settings.device)
        self.paths = settings.store.paths(run)
        self.data = self.task.data(experiment, settings.data_dir, settings.store.runs)
        self.parts = assembled(run, self.task, self.data, settings)
        per_device = min(self.recipe.per_device_batch or self.recipe.batch, self.recipe.batch)
        self.order = Order(self.data.positions, run.repetition, self.recipe.batch, per_device, self.data.group)
        self.steps = self.recipe.iterations or self.recipe.epochs * len(self.order)
        self.every = self.task.evaluate_every(experiment, len(self.order))
        self.meter = Meter(self.device)
        noise = generator("method-noise", run.repetition, experiment.identity, device=self.device)
        zero = torch.zeros((), device=self.device)
        self.moment = Moment(zero, zero.clone(), noise, step=zero.clone())
        self.model = Distilling(
            student=self.parts.student,
            method=self.parts.method,
            teacher=self.parts.teacher,
            task=self.task,
            moment=self.moment,
            meter=self.meter,
            repetition=run.repetition,
            per_device=per_device,
        ).to(self.device)
        if self.parts.teacher is not None:
            self.parts.teacher.to(self.device)
        self.curves = Curves()
        self.seconds = self.training_seconds = 0.0
        self.teacher_metrics: dict[str, float] = {}
        self._since = self._saved = time.monotonic()

    def run(self) -> Record:
        """Train to the end, or until a stop is requested. Return the record.

        Raises:
            Stopped: asked to stop, the checkpoint is written.
        """
        for note in filter(None, (self.data.note, *self.parts.notes)):
            self.settings.say(f"NOTE: {self.run_id.label}: {note}")
        sweep_partials(self.paths.work)
        runner = self._runner()
        self._measure_teacher()
        try:
            self._since = self._saved = time.monotonic()
            runner.train()
        except Diverged as error:
            return self._record("diverged", error.message)
        return self._record("done")

    def _runner(self) -> Any:
        from mmengine.runner import Runner

        from benchmark.train.dense.feeding import test_loader, training_loader
        from benchmark.train.dense.passes import Passes, Restore

        def loop(runner: Any, dataloader: Any) -> Passes:  # a function, for MMEngine copies what configurations hold
            return Passes(runner, dataloader, self.order, self.steps, self.every, self)

        own = self.task.configuration(self.run_id.experiment.student)
        return Runner(
            model=self.model,
            work_dir=str(self.paths.work / "mmengine"),
            train_dataloader=training_loader(self.data, self.order, self.settings.workers),
            train_cfg={"type": loop},
            val_dataloader=test_loader(self.data, self.settings.workers),
            val_cfg={"type": "ValLoop"},
            val_evaluator=self.data.evaluator,
            optim_wrapper=optim_wrapper(own, self.recipe, self.run_id.experiment.precision),
            param_scheduler=schedulers(own, self.recipe, len(self.order), self.steps),
            default_hooks=dict.fromkeys(("timer", "logger", "checkpoint", "sampler_seed")),
            custom_hooks=[Restore()],
            default_scope=TASKS[self.run_id.experiment.task].openmmlab,
            log_level="CRITICAL",
            experiment_name=f"{self.run_id.experiment.identity}-{self.run_id.repetition}",
        )

    def _measure_teacher(self) -> None:
        from benchmark.train.dense.parts import cached_metrics

        if self.parts.teacher is None:
            return
        sha = self.parts.teacher_facts["weights_sha256"]
        plain: Any = self.parts.teacher.network
        asked, workers = self.run_id.experiment.precision, self.settings.workers
        self.teacher_metrics = cached_metrics(
            self.settings,
            sha,
            self.data,
            asked,
            lambda: self.task.metrics(evaluate(plain, self.data, self.device, asked, workers)),
        )

    # What the loop tells (`passes.Supervisor`)

    def restore(self, runner: Any) -> int:
        """Load the newest usable checkpoint into the runner, if there is one. Return the number of steps done."""
        fresh: dict[str, Any] | None = None
        step: int | None = None
        while step is None:
            found = checkpoint.load(self.paths.checkpoint, self.run_id, self.settings.say)
            if found is None:
                break
            if fresh is None and not found.sealed:
                fresh = copy.deepcopy(self._state(runner, 0))
            step = self._restored(runner, found)
        if step is None or found is None:
            if fresh is not None:  # a damaged checkpoint may have been read in part
                self._restore(runner, fresh)
            return 0
        if not found.sealed:
            self.settings.say(checkpoint.renewed(found))
            self._save(runner, step)
        if step < self.steps:
            self.settings.say(f"{self.run_id.label}: going on from step {step} of {self.steps}")
        return step

    def _restored(self, runner: Any, found: checkpoint.Found) -> int | None:
        """Return the steps done in a checkpoint that fits this run, or None if the checkpoint was set aside."""
        try:
            return self._restore(runner, found.state)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            checkpoint.refused(found, error, self.settings.say)
            return None

    def _restore(self, runner: Any, state: Mapping[str, Any]) -> int:
        own = state["benchmark"]
        checkpoint.check_teacher(self.run_id, own.get("teacher_sha256"), self._teacher_sha256(), self.paths.work)
        runner.model.load_state_dict(state["state_dict"])
        runner.optim_wrapper.load_state_dict(state["optimizer"])
        for scheduler, saved in zip(runner.param_schedulers, state["param_schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        self.moment.generator.set_state(own["generator"])
        self.meter.load(own["meter"])
        self.curves = Curves(own["rows"], own["best"], own["best_row"])
        self.seconds, self.training_seconds = own["seconds"], own["training_seconds"]
        step: int = state["meta"]["iter"]
        self.model.step = step
        return step

    def _teacher_sha256(self) -> str | None:
        return self.parts.teacher_facts.get("weights_sha256")

    def before_step(self, step: int) -> None:
        """Set the method's training progress: step, epoch, and progress in [0, 1]."""
        assert self.moment.step is not None
        self.moment.step.fill_(step)
        self.moment.epoch.fill_(step // len(self.order))
        self.moment.progress.fill_(step / self.steps)

    def after_step(self, runner: Any, step: int) -> None:
        """Check for losses that are not finite, report the progress, save a due checkpoint, and stop if asked to."""
        if step % CHECK_EVERY == 0 or step % self.every == 0 or step == self.steps:
            self._check_finite()
            self._report(step)
        stopping = self.settings.stop.is_set()
        due = time.monotonic() - self._saved > self.settings.checkpoint_seconds
        if stopping or due or step == self.steps:
            self._save(runner, step)
        if stopping:
            raise Stopped

    def before_evaluation(self, step: int) -> None:
        """Check what no metric would show: a detector with broken weights finds nothing, and has an AP of 0."""
        self._check_finite()
        for name, tensor in self.parts.student.network.state_dict().items():
            if not tensor.isfinite().all():
                raise Diverged(f"{name} of the student is not finite after step {step}")

    def after_evaluation(self, runner: Any, step: int, found: Mapping[str, float]) -> None:
        """Add one row to the curves."""
        metrics = self.task.metrics(found)
        broken = [name for name, value in metrics.items() if not math.isfinite(value)]
        if broken:
            raise Diverged(f"test {broken[0]} is not a finite number after step {step}")
        row = {"epoch": round(step / len(self.order), 4), "step": float(step)}
        row |= {f"train.{name}": value for name, value in self.meter.means().items()}
        if len(self.curves.rows) % max(1, self.steps // self.every // HISTOGRAMS) == 0:
            row |= {f"train.{name}": value for name, value in self.meter.histograms().items()}
        self.curves.add(row, metrics, TASKS[self.run_id.experiment.task].metric)
        self.meter = self.model.meter = Meter(self.device)

    def _check_finite(self) -> None:
        broken = self.meter.first_broken()
        if broken is not None:
            raise Diverged(f"{broken[1]} is not a finite number at step {broken[0]}")

    def _report(self, step: int) -> None:
        self._tick()
        left = (self.steps - step) * self.training_seconds / max(1, step)
        images = self._images(step)
        self.settings.progress(
            Progress(
                run=self.run_id,
                epoch=(step - 1) // len(self.order) + 1,
                epochs=-(-self.steps // len(self.order)),
                step=(step - 1) % len(self.order) + 1,
                steps=len(self.order),
                seconds_left=left,
                images_per_second=images / self.training_seconds if self.training_seconds else 0.0,
                metrics=self.curves.last("test."),
            )
        )

    def _images(self, step: int) -> int:
        epochs, rest = divmod(step, len(self.order))
        return epochs * len(self.data.positions) + rest * self.recipe.batch

    def _tick(self) -> None:
        now = time.monotonic()
        self.seconds += now - self._since
        self.training_seconds += now - self._since
        self._since = now

    def _save(self, runner: Any, step: int) -> None:
        self._tick()
        checkpoint.save(self.paths.checkpoint, self._state(runner, step), self.run_id, step)
        self._saved = time.monotonic()

    def _state(self, runner: Any, step: int) -> dict[str, Any]:
        """Return the state in MMEngine's layout. This project's own part is under `benchmark`."""
        return {
            "meta": {"iter": step, "epoch": step // len(self.order)},
            "state_dict": runner.model.state_dict(),
            "optimizer": runner.optim_wrapper.state_dict(),
            "param_schedulers": [scheduler.state_dict() for scheduler in runner.param_schedulers],
            "benchmark": {
                "identity": self.run_id.experiment.identity,
                "repetition": self.run_id.repetition,
                "teacher_sha256": self._teacher_sha256(),
                "generator": self.moment.generator.get_state(),
                "meter": self.meter.state(),
                "rows": self.curves.rows,
                "best": self.curves.best,
                "best_row": self.curves.best_row,
                "seconds": self.seconds,
                "training_seconds": self.training_seconds,
            },
        }

    def _record(self, status: Any, reason: str = "") -> Record:
        student = self.parts.method.merge(self.parts.student.network)
        weights = {name: tensor.detach().cpu() for name, tensor in student.state_dict().items()}
        if status == "done":
            write_atomically(self.paths.student, lambda file: torch.save(weights, file))
            if side := {name: tensor.detach().cpu() for name, tensor in self.parts.method.state_dict().items()}:
                write_atomically(self.paths.side_networks, lambda file: torch.save(side, file))
        self._tick()
        images = self._images(self.model.step)
        record = record_of(
            self.run_id,
            self.settings,
            self.curves,
            status=status,
            reason=reason,
            weights=weights,
            attempts=self.paths.attempts,
            data=dict(self.data.identity),
            teacher=self._teacher_facts(),
            weight_files=self.parts.files,
            effective=self._effective(),
            seconds=round(self.seconds, 2),
            images_per_second=round(images / self.training_seconds, 2) if self.training_seconds else None,
        )
        self.settings.store.write(self.run_id, record, curves_csv(self.curves.rows) if self.curves.rows else "")
        checkpoint.remove(self.paths.checkpoint)
        return record

    def _teacher_facts(self) -> dict[str, Any] | None:
        if self.parts.teacher is None:
            return None
        return {**self.parts.teacher_facts, **rounded(self.teacher_metrics)}

    def _effective(self) -> dict[str, Any]:
        from benchmark.models import mmcv_ops

        found = {
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "precision": self.run_id.experiment.precision,
            "deterministic": self.device.type == "cpu",
            "batch": self.recipe.batch,
            "per_device_batch": self.model.per_device,
            "mmcv_ops": mmcv_ops.in_use(),
        }
        ignored = honouring.require(self.run_id.experiment)
        found |= {"ignored": ignored} if ignored else {}
        return found | ({"stand_ins": self.parts.notes} if self.parts.notes else {})


def optim_wrapper(own: Mapping[str, Any], recipe: Recipe, precision_name: str) -> dict[str, Any]:
    """Return MMEngine's configuration of the recipe's optimiser.

    Per-parameter rules are taken from the network's own.
    """
    kept = own.get("optim_wrapper", {}).get("paramwise_cfg")
    settings: dict[str, Any] = {
        "type": "OptimWrapper",
        "optimizer": {
            "type": "SGD",
            "lr": recipe.lr,
            "momentum": recipe.momentum,
            "weight_decay": recipe.weight_decay,
        },
    }
    if precision_name in ("fp16", "bf16"):
        settings |= {"type": "AmpOptimWrapper", "dtype": {"fp16": "float16", "bf16": "bfloat16"}[precision_name]}
    if kept:
        settings["paramwise_cfg"] = kept
    if recipe.clip_grad is not None:
        settings["clip_grad"] = {"max_norm": recipe.clip_grad, "norm_type": 2}
    return settings


def schedulers(own: Mapping[str, Any], recipe: Recipe, steps_an_epoch: int, steps: int) -> list[dict[str, Any]]:
    """Return MMEngine's configuration of the recipe's schedule. The warm-up has the form of the network's own."""
    found: list[dict[str, Any]] = []
    warm = math.ceil(recipe.warmup_epochs * steps_an_epoch)
    if warm:
        warm = max(2, warm)  # MMEngine's warm-up of one step would keep its first rate for the whole training
        constant = any(entry["type"] == "ConstantLR" for entry in own.get("param_scheduler", ()))
        factor = recipe.warmup_lr / recipe.lr
        form = {"type": "ConstantLR", "factor": factor} if constant else {"type": "LinearLR", "start_factor": factor}
        found.append({**form, "by_epoch": False, "begin": 0, "end": warm})
    if recipe.schedule == "step" and recipe.milestones:
        milestones = list(recipe.milestones)
        found.append({"type": "MultiStepLR", "by_epoch": True, "begin": 0, "end": recipe.epochs})
        found[-1] |= {"milestones": milestones, "gamma": recipe.decay}
    if recipe.schedule == "poly":
        found.append({"type": "PolyLR", "by_epoch": False, "begin": warm, "end": steps})
        found[-1] |= {"power": recipe.power, "eta_min": recipe.min_lr}
    return found


def evaluate(
    network: Any, data: Any, device: torch.device, precision_name: str, workers: int | None = None
) -> dict[str, float]:
    """Return the evaluator's metrics of a plain network on the test images.

    `precision_name` is the one that the caller records. No half precision is used: bf16 and fp16 evaluate as fp32.
    `workers` processes decode the images, none by default.
    """
    from benchmark.train.dense.feeding import test_loader

    network.to(device).eval()
    with torch.no_grad(), precision.arithmetic(precision_name):
        for batch in test_loader(data, workers):
            data.evaluator.process(data_samples=network.test_step(batch), data_batch=batch)
    with openmmlab.quiet():
        found: dict[str, float] = data.evaluator.evaluate(len(data.test))
    return found


def evaluated(run: Run, settings: Settings) -> Record:
    """Evaluate given weights on the test images, without training, and return the record."""
    from benchmark.train.dense.parts import cached_metrics, loaded_teacher

    began = time.monotonic()
    found = task(run.experiment.task)
    data = found.data(run.experiment, settings.data_dir, settings.store.runs)
    notes: list[str] = []
    files: dict[str, Mapping[str, str]] = {}
    network, facts = loaded_teacher(run.experiment, data.classes, settings, notes, files)
    held(run, files, settings.store, teacher_sha256=facts["weights_sha256"])
    device = torch.device(settings.device)
    asked = precision.EVALUATED
    metrics = cached_metrics(
        settings,
        facts["weights_sha256"],
        data,
        asked,
        lambda: found.metrics(evaluate(network, data, device, asked, settings.workers)),
    )
    for note in filter(None, (data.note, *notes)):
        settings.say(f"NOTE: {run.label}: {note}")
    effective = {"device": settings.device, "threads": torch.get_num_threads(), "precision": asked}
    record = Record(
        status="done",
        last=rounded(metrics),
        best=rounded(metrics),
        weights_sha256=facts["weights_sha256"],
        data=dict(data.identity),
        weight_files=files,
        effective=effective | ({"stand_ins": notes} if notes else {}),
        seconds=round(time.monotonic() - began, 2),
        **asked_and_found(run, settings),
    )
    settings.store.write(run, record)
    return record


@contextlib.contextmanager
def own_generators(precision_name: str, device: torch.device) -> Iterator[None]:
    """Set the recorded arithmetic, and restore the global generators, which MMEngine seeds, afterwards."""
    before = random.getstate(), np.random.get_state()
    arithmetic = precision.arithmetic(precision_name, device.type == "cpu")
    with torch.random.fork_rng(devices=[]), arithmetic, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # OpenMMLab's own calls of what newer versions deprecate
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
