"""The training of one detection or segmentation run by MMEngine's Runner, from the first step or its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch

from benchmark.errors import Diverged
from benchmark.machine.streams import generator
from benchmark.paper.tasks import TASKS
from benchmark.plan.experiment import Run
from benchmark.records.store import Record, Status
from benchmark.train.bookkeeping import Bookkeeping, BooksState, Ended, with_histograms
from benchmark.train.dense.configuration import optim_wrapper, schedulers
from benchmark.train.dense.dense_task import task
from benchmark.train.dense.mmengine_evaluation import evaluate
from benchmark.train.meter import Meter
from benchmark.train.outcome import rounded
from benchmark.train.settings import CHECK_EVERY, Settings
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
        self.teacher_metrics: dict[str, float] = {}
        self.runner: Any = None  # MMEngine's, once it is made
        self.books = Bookkeeping(
            run,
            settings,
            self,
            steps=self.steps,
            epoch_steps=len(self.order),
            images=len(self.data.positions),
            batch=self.recipe.batch,
            teacher_sha256=self.parts.teacher_facts.get("weights_sha256"),
        )

    def run(self) -> Record:
        """Train to the end, or until a stop is requested. Return the record.

        Raises:
            Stopped: asked to stop, the checkpoint is written.
        """
        for note in filter(None, (self.data.note, *self.parts.notes)):
            self.settings.say(f"NOTE: {self.run_id.label}: {note}")
        self.runner = self._made_runner()
        self._measure_teacher()
        try:
            self.runner.train()
        except Diverged as error:
            return self.finish("diverged", error.message)
        return self.finish("done")

    def _made_runner(self) -> Any:
        from mmengine.runner import Runner

        from benchmark.train.dense.feeding import test_loader, training_loader
        from benchmark.train.dense.passes import Passes, Restore

        def loop(runner: Any, dataloader: Any) -> Passes:  # a function, for MMEngine copies what configurations hold
            return Passes(runner, dataloader, self.order, self.steps, self.every, self)

        own = self.task.configuration(self.run_id.experiment.student)
        return Runner(
            model=self.model,
            work_dir=str(self.books.paths.work / "mmengine"),
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

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds: MMEngine's layout, and this project's own part under `benchmark`."""
        step = self.model.step
        return {
            "meta": {"iter": step, "epoch": step // len(self.order)},
            "state_dict": self.runner.model.state_dict(),
            "optimizer": self.runner.optim_wrapper.state_dict(),
            "param_schedulers": [scheduler.state_dict() for scheduler in self.runner.param_schedulers],
            "benchmark": {
                **self.books.state(),
                "best_row": self.books.curves.best_row,  # as earlier programs of this format read it
                "generator": self.moment.generator.get_state(),
                "meter": self.meter.state(),
            },
        }

    def restore(self, state: Mapping[str, Any]) -> int:
        """Load such a state, and return the number of steps done."""
        own = state["benchmark"]
        self.runner.model.load_state_dict(state["state_dict"])
        self.runner.optim_wrapper.load_state_dict(state["optimizer"])
        for scheduler, saved in zip(self.runner.param_schedulers, state["param_schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        self.moment.generator.set_state(own["generator"])
        self.meter.load(own["meter"])
        # Checkpoints from before the books were shared say `best_row`.
        self.books.restore(cast("BooksState", {"best_epoch": own.get("best_row"), **own}))
        step: int = state["meta"]["iter"]
        self.model.step = step
        return step

    # Called by the loop (`passes.Supervisor`)

    def resume(self) -> int:
        """Restore the newest usable checkpoint, if there is one. Return the number of steps done."""
        step = self.books.resume()
        self.books.clock.training()
        return step

    def before_step(self, step: int) -> None:
        """Set the method's training progress: step, epoch, and progress in [0, 1]."""
        assert self.moment.step is not None
        self.moment.step.fill_(step)
        self.moment.epoch.fill_(step // len(self.order))
        self.moment.progress.fill_(step / self.steps)
        self.model.sampling = (step + 1) % self.every == 0 or step + 1 == self.steps

    def after_step(self, step: int) -> None:
        """Check for losses that are not finite, report the progress, save a due checkpoint, and stop if asked to."""
        if step % CHECK_EVERY == 0 or step % self.every == 0 or step == self.steps:
            self.books.check(self.meter)
            self.books.report(step)
        self.books.after_step(step, last=step == self.steps)

    def before_evaluation(self, step: int) -> None:
        """Check what no metric would show: a detector with broken weights finds nothing, and has an AP of 0."""
        self.books.check(self.meter)
        for name, tensor in self.parts.student.network.state_dict().items():
            if not tensor.isfinite().all():
                raise Diverged(f"{name} of the student is not finite after step {step}")
        self.books.clock.ended()

    def after_evaluation(self, step: int, found: Mapping[str, float]) -> None:
        """Add one row to the curves."""
        row = {"epoch": round(step / len(self.order), 4), "step": float(step)}
        bins = with_histograms(len(self.books.curves.rows) + 1, self.steps // self.every)
        self.books.add(step, row, self.meter, self.task.metrics(found), self.model.telemetry, bins)
        self.meter = self.model.meter = Meter(self.device)
        self.books.clock.training()

    def finish(self, status: Status, reason: str = "") -> Record:
        """Write what remains of a training that ended, and return its record."""
        from benchmark.models import mmcv_ops

        teacher = None
        if self.parts.teacher is not None:
            teacher = {**self.parts.teacher_facts, **rounded(self.teacher_metrics)}
        effective: dict[str, object] = {
            "batch": self.recipe.batch,
            "per_device_batch": self.model.per_device,
            "mmcv_ops": mmcv_ops.in_use(),
        }
        ended = Ended(
            weights=self.parts.method.merge(self.parts.student.network).state_dict(),
            side_networks=self.parts.method.state_dict(),
            data=self.data.identity,
            teacher=teacher,
            weight_files=self.parts.files,
            effective=effective | ({"stand_ins": self.parts.notes} if self.parts.notes else {}),
        )
        return self.books.close(status, reason, self.model.step, ended)
