"""The training of one run, from the first step or from its checkpoint to its record."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import NotRequired, cast

import torch
from torch import Tensor

from benchmark.data.augment import CropFlipPlan
from benchmark.data.batches import ClassificationData, EpochPlan
from benchmark.data.on_device import DeviceData
from benchmark.errors import Diverged
from benchmark.plan.estimate import Measured
from benchmark.plan.experiment import Run
from benchmark.records.store import Record, Status
from benchmark.train import precision
from benchmark.train.bookkeeping import Bookkeeping, BooksState, Ended, learned, with_histograms
from benchmark.train.classification.assembly import assembled
from benchmark.train.engine import telemetry, testing
from benchmark.train.engine.compiled import NotCompiled, worth_it
from benchmark.train.engine.graphs import Graphs, why_not
from benchmark.train.engine.step import Stepper
from benchmark.train.meter import Meter, MeterState
from benchmark.train.outcome import rounded
from benchmark.train.settings import CHECK_EVERY, Settings


class TrainingState(BooksState):
    """All that a checkpoint of a classification run holds."""

    epoch: int
    step: int
    step_kind: NotRequired[str | None]  # the oldest checkpoints have none: their steps were eager
    distiller: dict[str, Tensor]
    optimizer: dict[str, object]
    scaler: dict[str, object]
    generator: Tensor
    meters: list[MeterState]
    average: dict[str, Tensor] | None


class Training:
    """All state of one run."""

    def __init__(self, run: Run, data: ClassificationData, settings: Settings) -> None:
        self.run_id = run
        self.settings = settings
        self.device = torch.device(settings.device)
        self.data = data
        experiment = run.experiment
        assert experiment.recipe is not None
        self.recipe = experiment.recipe
        precision.check(experiment.precision, self.device)
        self.ranks = settings.ranks
        self.steps = data.steps(self.recipe.batch)
        self.parts = assembled(run, data, settings.store, self.device, self.ranks)
        self.stepper = Stepper(self.parts, self.recipe, experiment.precision, self.device)
        self.began: str | None = None  # how its first step was made, once it is
        self.epoch = 0
        self.step = 0  # within the epoch
        self.meter = Meter(self.device)
        self.graphs: Graphs | None = None
        # Looking makes the host wait, which a GPU cannot make up for: there, once an epoch.
        self._check_every = CHECK_EVERY if self.device.type == "cpu" else self.steps
        self.books = Bookkeeping(
            run,
            settings,
            self,
            steps=self.recipe.epochs * self.steps,
            epoch_steps=self.steps,
            images=len(data),
            batch=self.recipe.batch,
            teacher_sha256=self.parts.teacher.weights_sha256 if self.parts.teacher is not None else None,
        )

    def advancing(self) -> Generator[None, None, Record]:
        """Train to the end, yielding after each step, so that several runs in one process can take turns.

        Raises:
            Stopped: asked to stop, the checkpoint is written.
        """
        self.books.resume()
        self.choose_step()
        self.books.clock.training()
        try:
            while self.epoch < self.recipe.epochs:
                yield from self._train_epoch()
                with self.arithmetic(), self.books.clock.pausing():
                    self._close_epoch()
        except Diverged as error:
            return self.finish("diverged", error.message)
        return self.finish("done")

    @property
    def done(self) -> int:
        """Return the number of steps done."""
        return self.epoch * self.steps + self.step

    def choose_step(self) -> None:
        """Compile and capture the step if asked for or worthwhile. A run that began compiled stays compiled."""
        label, say = self.run_id.label, self.settings.say
        asked, device = self.settings.compile, self.device.type
        wanted, why = asked == "always", ""
        if asked == "auto":
            measured = Measured.here(self.settings.store.runs, str(self.device))
            wanted, why = worth_it(self.run_id.experiment, device, measured)
        if self.began is not None and asked == "auto":
            wanted = self.began == "compiled"
        if wanted:
            say(f"{label}: compiling the step{f' ({why})' if why else ''}")
            size = self.recipe.batch
            batch = self.data.batch(self.data.epoch_plan(self.run_id.repetition, 0), 0, size)
            try:
                with self.arithmetic():
                    took = self.stepper.compile(batch, (self.settings.store.runs / "compiled").resolve())
                say(f"{label}: compiled in {took:.0f} s")
            except NotCompiled as reason:
                say(f"{label}: the step runs eagerly, because compiling it failed: {reason}")
        if self.device.type == "cuda" and asked != "never":
            obstacle = why_not(self.stepper, self.data)
            if isinstance(self.data, DeviceData) and not obstacle:
                self.graphs = Graphs(self.stepper, self.data, self.meter)
            else:
                say(f"{label}: each step is launched from the host, because {obstacle}")
        if self.began not in (None, self.stepper.kind):
            say(
                f"{label}: began {self.began} and resumes {self.stepper.kind}: "
                "its losses will differ in the last digits from those of a run never interrupted"
            )
        self.began = self.began or self.stepper.kind

    def arithmetic(self) -> AbstractContextManager[None]:
        """Return the context in which everything of this run is computed."""
        # Process-wide settings: held no longer than this run computes, for another may take the next turn.
        return precision.arithmetic(self.run_id.experiment.precision, deterministic=self.device.type == "cpu")

    def _train_epoch(self) -> Iterator[None]:
        plan = self.data.epoch_plan(self.run_id.repetition, self.epoch)
        while self.step < self.steps:
            self.one_step(plan)
            self.step += 1
            if self.step % self._check_every == 0 or self.step == self.steps:
                self.books.check(self.meter)
                self.books.report(self.done)
            self.books.after_step(self.done)
            if self.device.type == "cpu":
                with self.books.clock.pausing():  # the turns of others are not this run's time
                    yield
            else:
                yield  # on a GPU they overlap with it

    def one_step(self, plan: EpochPlan) -> None:
        """Train the next step on its batch of the epoch's plan. The caller increments the step number."""
        done = self.epoch + self.step / self.steps
        start, number = self.step * self.recipe.batch, self.done
        with self.arithmetic():
            if self.graphs is not None:
                assert isinstance(plan, CropFlipPlan), "only data on the device are captured"
                self.graphs.step(plan[start : start + self.recipe.batch], done, number)
            else:
                self.stepper.step(self.data.batch(plan, start, self.recipe.batch), done, self.meter, number)

    def _close_epoch(self) -> None:
        sampled = self._sampled()
        metrics = self._evaluated()
        self.epoch += 1
        self.step = 0
        bins = with_histograms(self.epoch, self.recipe.epochs)
        row = {"epoch": float(self.epoch)}
        self.books.add(self.done, row, self.meter.over(self.ranks), metrics, sampled, bins)
        self.meter.reset()
        if self.epoch == self.recipe.epochs:
            self.books.save(self.done)

    def _sampled(self) -> dict[str, float]:
        """Return the telemetry of the epoch's last full batch, at the moment of its last step."""
        last, size = self.steps - 1, self.recipe.batch
        # Set already, unless the run was resumed here.
        self.stepper.set_moment(self.epoch + last / self.steps, self.meter, self.done - 1)
        plan = self.data.epoch_plan(self.run_id.repetition, self.epoch)
        batch = self.data.batch(plan, max(0, len(self.data) // size - 1) * size, size)
        return telemetry.sampled(self.parts, batch, self.run_id.experiment.precision, self.done - 1)

    def _evaluated(self) -> dict[str, float]:
        """Return the student's metrics.

        If its weights are averaged, return the average's, and the student's as `online.`.
        """
        student, average = self.parts.distiller.student, self.parts.average
        asked = self.run_id.experiment.precision
        self.ranks.share(buffer for buffer in student.buffers())
        found = testing.evaluate(student, self.data, asked, self.ranks)
        if average is None:
            return found
        self.ranks.share(buffer for buffer in average.student.buffers())
        averaged = testing.evaluate(average.student, self.data, asked, self.ranks)
        return averaged | {f"online.{name}": value for name, value in found.items()}

    def state(self) -> TrainingState:
        """Return all that a checkpoint must hold. Each rank calls it: each has sums of its own."""
        return {
            **self.books.state(),
            "epoch": self.epoch,
            "step": self.step,
            "step_kind": self.began,
            "distiller": self.parts.distiller.state_dict(),
            "optimizer": self.parts.optimizer.state_dict(),
            "scaler": self.parts.scaler.state_dict(),
            "generator": self.parts.moment.generator.get_state(),
            "meters": self.ranks.all(self.meter.state()),
            "average": self.parts.average.state() if self.parts.average is not None else None,
        }

    def restore(self, state: Mapping[str, object]) -> int:
        """Load such a state, and return the number of steps done."""
        found = cast(TrainingState, state)  # what is missing or of another kind raises
        self.parts.distiller.load_state_dict(found["distiller"])
        self.parts.optimizer.load_state_dict(found["optimizer"])
        self.parts.scaler.load_state_dict(found["scaler"])
        self.parts.moment.generator.set_state(found["generator"])
        if self.parts.average is not None:
            if (averaged := found["average"]) is None:
                raise KeyError("average")
            self.parts.average.load(averaged)
        if len(found["meters"]) == self.ranks.world:
            self.meter.load(found["meters"][self.ranks.rank])
        else:
            self.settings.say(
                f"{self.run_id.label}: begun by {len(found['meters'])} processes, resumed by {self.ranks.world}: "
                "sums are added in another order, and this epoch's mean losses cover its remaining steps only"
            )
        self.began = found.get("step_kind", "eager")
        self.epoch, self.step = found["epoch"], found["step"]
        self.books.restore(found)
        return self.done

    def finish(self, status: Status, reason: str = "") -> Record:
        """Write what remains of a training that ended, and return its record."""
        average = self.parts.average
        trained = self.parts.distiller.student if average is None else average.student
        method = self.parts.distiller.method
        ended = Ended(
            weights=method.merge(trained.network).state_dict(),
            side_networks=learned(method),
            data=self.data.identity,
            teacher=self._teacher_facts(),
            weight_files=self.parts.files,
            effective=self._effective(),
        )
        return self.books.close(status, reason, self.done, ended)

    def _teacher_facts(self) -> dict[str, object] | None:
        if self.parts.teacher is None:
            return None
        stands_in = {"stand_in": self.parts.teacher.source} if self.parts.teacher.stands_in else {}
        sha = self.parts.teacher.weights_sha256
        return {"weights_sha256": sha, **stands_in, **rounded(self.parts.teacher_metrics)}

    def _effective(self) -> dict[str, object]:
        return {
            "step": self.stepper.kind,
            "cuda_graphs": self.graphs is not None,
            "batch": self.recipe.batch,
            "per_device_batch": self._seen_by_norms(),
            "processes": self.ranks.world,
            "shards_a_step": self.parts.shards.count,
            **({"not_in_student": list(self.parts.not_in_student)} if self.parts.not_in_student else {}),
        }

    def _seen_by_norms(self) -> int:
        synchronised = any(isinstance(m, torch.nn.SyncBatchNorm) for m in self.parts.distiller.modules())
        return self.recipe.batch if synchronised else self.recipe.batch // self.parts.shards.total
