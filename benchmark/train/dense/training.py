"""The training of one detection or segmentation run by MMEngine's Runner, from the first step or its checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import torch

from benchmark.errors import Diverged
from benchmark.machine.files import sweep_partials
from benchmark.machine.streams import generator
from benchmark.paper.tasks import TASKS
from benchmark.plan.experiment import Run
from benchmark.records.store import Record
from benchmark.train import checkpoint
from benchmark.train.dense.configuration import optim_wrapper, schedulers
from benchmark.train.dense.evaluation import evaluate
from benchmark.train.dense.record import write_record
from benchmark.train.dense.resuming import resume, state_of
from benchmark.train.dense.task import task
from benchmark.train.meter import Meter
from benchmark.train.outcome import Curves
from benchmark.train.settings import CHECK_EVERY, HISTOGRAMS, Progress, Settings, Stopped
from methods.base import Moment


class DenseTraining:
    """All state of one run. `run` carries it to its record.

    MMEngine's Runner trains and evaluates; what is kept of it, and when, is decided here, as for classification:
    checkpoints in MMEngine's layout at any step, atomic, the one before kept; one row of curves an evaluation.
    """

    def __init__(self, run: Run, settings: Settings) -> None:
        from benchmark.train.dense.feeding import StepOrder
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
        self.order = StepOrder(self.data.positions, run.repetition, self.recipe.batch, per_device, self.data.group)
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
            return write_record(self, "diverged", error.message)
        return write_record(self, "done")

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

    def save(self, runner: Any, step: int) -> None:
        """Write a checkpoint after so many steps."""
        self.tick()
        checkpoint.save(self.paths.checkpoint, state_of(self, runner, step), self.run_id, step)
        self._saved = time.monotonic()

    # Called by the loop (`passes.Supervisor`)

    def restore(self, runner: Any) -> int:
        """Load the newest usable checkpoint into the runner, if there is one. Return the number of steps done."""
        return resume(self, runner)

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
            self.save(runner, step)
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
        self.tick()
        left = (self.steps - step) * self.training_seconds / max(1, step)
        images = self.images(step)
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

    def images(self, step: int) -> int:
        """Return the number of images that were trained on in so many steps."""
        epochs, rest = divmod(step, len(self.order))
        return epochs * len(self.data.positions) + rest * self.recipe.batch

    def tick(self) -> None:
        """Add the time since the last call to the run's seconds."""
        now = time.monotonic()
        self.seconds += now - self._since
        self.training_seconds += now - self._since
        self._since = now
