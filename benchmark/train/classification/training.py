"""The training of one run, from the first step or from its checkpoint to its record."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from typing import NotRequired, TypedDict, cast

import torch
from torch import Tensor

from benchmark.data.augment import CropFlipPlan
from benchmark.data.batches import ClassificationData, EpochPlan
from benchmark.data.on_device import DeviceData
from benchmark.errors import Diverged
from benchmark.machine.files import sweep_partials, write_atomically
from benchmark.paper.tasks import TASKS
from benchmark.plan.estimate import Measured
from benchmark.plan.experiment import Run
from benchmark.records.store import Record, RunPaths, Status, curves_csv
from benchmark.train import checkpoint, honouring, precision
from benchmark.train.classification.assembly import assembled
from benchmark.train.engine import testing
from benchmark.train.engine.compiled import NotCompiled, worth_it
from benchmark.train.engine.graphs import Graphs, why_not
from benchmark.train.engine.step import Stepper
from benchmark.train.meter import Meter, MeterState
from benchmark.train.outcome import Curves, record_of, rounded
from benchmark.train.settings import CHECK_EVERY, HISTOGRAMS, Progress, Settings, Stopped


class TrainingState(TypedDict):
    """All that a checkpoint of a classification run holds."""

    identity: str
    repetition: int
    teacher_sha256: NotRequired[str | None]  # format 1 has none
    epoch: int
    step: int
    step_kind: NotRequired[str | None]  # the oldest checkpoints have none: their steps were eager
    distiller: dict[str, Tensor]
    optimizer: dict[str, object]
    scaler: dict[str, object]
    generator: Tensor
    meters: list[MeterState]
    average: dict[str, Tensor] | None
    rows: list[dict[str, float]]
    best: dict[str, float]
    best_epoch: int | None
    seconds: float
    training_seconds: float


class Training:
    """All state of one run. `run` trains it and returns its record."""

    def __init__(self, run: Run, data: ClassificationData, settings: Settings) -> None:
        self.run_id = run
        self.settings = settings
        self.paths: RunPaths = settings.store.paths(run)
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
        self.curves = Curves()
        self.seconds = 0.0
        self.training_seconds = 0.0
        self._since = time.monotonic()
        self._saved = time.monotonic()

    def run(self) -> Record:
        """Train to the end, or until a stop is requested. Return the record.

        Raises:
            Stopped: asked to stop, the checkpoint is written.
        """
        steps = self.advancing()
        while True:
            try:
                next(steps)
            except StopIteration as end:
                record: Record = end.value
                return record

    def advancing(self) -> Generator[None, None, Record]:
        """Train like `run`, but yield after each step, so that several runs in one process can take turns.

        Raises:
            Stopped: asked to stop, the checkpoint is written.
        """
        self._resume()
        self.choose_step()
        try:
            while self.epoch < self.recipe.epochs:
                yield from self._train_epoch()
                with self.arithmetic():
                    self._close_epoch()
        except Diverged as error:
            return self._record("diverged", error.message)
        return self._record("done")

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
        began = time.monotonic()
        while self.step < self.steps:
            self.one_step(plan)
            self.step += 1
            if self.step % self._check_every == 0 or self.step == self.steps:
                self._check_finite()
                self._report(began)
            # All ranks stop after the same step, and all write their part when the leader finds that it is time.
            due = self.ranks.leads and time.monotonic() - self._saved > self.settings.checkpoint_seconds
            stopping, saving = self.ranks.any(self.settings.stop.is_set(), due)
            if stopping or saving:
                self.training_seconds += time.monotonic() - began
                self._save()
                began = time.monotonic()
            if stopping:
                raise Stopped
            left = time.monotonic()
            yield
            if self.device.type == "cpu":  # the turns of others are not this run's time; a GPU's overlap
                began += time.monotonic() - left
        self.training_seconds += time.monotonic() - began

    def one_step(self, plan: EpochPlan) -> None:
        """Train the next step on its batch of the epoch's plan. The caller increments the step number."""
        done = self.epoch + self.step / self.steps
        start, number = self.step * self.recipe.batch, self.epoch * self.steps + self.step
        with self.arithmetic():
            if self.graphs is not None:
                assert isinstance(plan, CropFlipPlan), "only data on the device are captured"
                self.graphs.step(plan[start : start + self.recipe.batch], done, number)
            else:
                self.stepper.step(self.data.batch(plan, start, self.recipe.batch), done, self.meter, number)

    def _check_finite(self) -> None:
        broken = [found for found in self.ranks.all(self.meter.first_broken()) if found is not None]
        if broken:
            step, term = min(broken)
            raise Diverged(f"{term} is not a finite number at step {step} (epoch {step // self.steps + 1})")

    def _close_epoch(self) -> None:
        metrics = self._evaluated()
        broken = [name for name, value in metrics.items() if not math.isfinite(value)]
        if broken:
            last = (self.epoch + 1) * self.steps - 1
            raise Diverged(f"test {broken[0]} is not a finite number after step {last} (epoch {self.epoch + 1})")
        self.epoch += 1
        self.step = 0
        meter = self.meter.over(self.ranks)
        row = {"epoch": float(self.epoch)} | {f"train.{name}": value for name, value in meter.means().items()}
        if self.epoch == 1 or self.epoch % max(1, self.recipe.epochs // HISTOGRAMS) == 0:
            row |= {f"train.{name}": value for name, value in meter.histograms().items()}
        self.curves.add(row, metrics, TASKS[self.run_id.experiment.task].metric)
        self.meter.reset()
        if self.epoch == self.recipe.epochs:
            self._save()

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

    def _report(self, began: float) -> None:
        trained = self.training_seconds + time.monotonic() - began
        steps_done = self.epoch * self.steps + self.step
        left = (self.recipe.epochs * self.steps - steps_done) * trained / max(1, steps_done)
        self.settings.progress(
            Progress(
                run=self.run_id,
                epoch=self.epoch + 1,
                epochs=self.recipe.epochs,
                step=self.step,
                steps=self.steps,
                seconds_left=left,
                images_per_second=self._images() / trained if trained else 0.0,
                metrics=self.curves.last("test."),
            )
        )

    def _images(self) -> int:
        return self.epoch * len(self.data) + min(self.step * self.recipe.batch, len(self.data))

    def _tick(self) -> None:
        now = time.monotonic()
        self.seconds += now - self._since
        self._since = now

    def _save(self) -> None:
        self._tick()
        state = self._state()  # by all ranks: each has sums of its own
        if self.ranks.leads:
            checkpoint.save(self.paths.checkpoint, state, self.run_id, self.epoch * self.steps + self.step)
        self._saved = time.monotonic()

    def _state(self) -> TrainingState:
        return {
            "identity": self.run_id.experiment.identity,
            "repetition": self.run_id.repetition,
            "teacher_sha256": self.parts.teacher.weights_sha256 if self.parts.teacher is not None else None,
            "epoch": self.epoch,
            "step": self.step,
            "step_kind": self.began,
            "distiller": self.parts.distiller.state_dict(),
            "optimizer": self.parts.optimizer.state_dict(),
            "scaler": self.parts.scaler.state_dict(),
            "generator": self.parts.moment.generator.get_state(),
            "meters": self.ranks.all(self.meter.state()),
            "average": self.parts.average.state() if self.parts.average is not None else None,
            "rows": self.curves.rows,
            "best": self.curves.best,
            "best_epoch": self.curves.best_row,
            "seconds": self.seconds,
            "training_seconds": self.training_seconds,
        }

    def _resume(self) -> None:
        if self.ranks.leads:
            sweep_partials(self.paths.work)
        fresh = None
        while (found := self._found()) is not None:
            if fresh is None and not found.sealed:
                fresh = copy.deepcopy(self._state())
            if self._restored(found):
                break
        else:
            if fresh is not None:  # a damaged checkpoint may have been read in part
                self._restore(fresh)
            return
        if not found.sealed:
            self.settings.say(checkpoint.renewed(found))
            self._save()
        if self.epoch < self.recipe.epochs:
            where = f"epoch {self.epoch + 1}, step {self.step} of {self.steps}"
            self.settings.say(f"{self.run_id.label}: resuming from {where}")

    def _found(self) -> checkpoint.UsableCheckpoint | None:
        """Return the checkpoint chosen by the leader, read by every rank; None if there is none."""
        path = self.paths.checkpoint
        found = checkpoint.load(path, self.run_id, self.settings.say) if self.ranks.leads else None
        chosen = self.ranks.told((found.path.name, found.sha256) if found is not None else None)
        if chosen is None or self.ranks.world == 1:
            return found

        def same() -> checkpoint.UsableCheckpoint:
            return found or checkpoint.load_same(path.with_name(chosen[0]), self.run_id, chosen[1])

        return self.ranks.together(same)

    def _restored(self, found: checkpoint.UsableCheckpoint) -> bool:
        """Restore a checkpoint and return True; if its content does not fit this run, set it aside and return False."""
        try:
            self._restore(cast(TrainingState, found.state))  # what is missing or of another kind raises
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            checkpoint.refused(found, error, self.settings.say, self.ranks.leads)
            return False
        return True

    def _restore(self, state: TrainingState) -> None:
        teacher = self.parts.teacher
        sha = teacher.weights_sha256 if teacher is not None else None
        checkpoint.check_teacher(self.run_id, state.get("teacher_sha256"), sha, self.paths.work)
        self.parts.distiller.load_state_dict(state["distiller"])
        self.parts.optimizer.load_state_dict(state["optimizer"])
        self.parts.scaler.load_state_dict(state["scaler"])
        self.parts.moment.generator.set_state(state["generator"])
        if self.parts.average is not None:
            if (averaged := state["average"]) is None:
                raise KeyError("average")
            self.parts.average.load(averaged)
        if len(state["meters"]) == self.ranks.world:
            self.meter.load(state["meters"][self.ranks.rank])
        else:
            self.settings.say(
                f"{self.run_id.label}: begun by {len(state['meters'])} processes, resumed by {self.ranks.world}: "
                "sums are added in another order, and this epoch's mean losses cover its remaining steps only"
            )
        self.began = state.get("step_kind", "eager")
        self.epoch, self.step = state["epoch"], state["step"]
        self.curves = Curves(state["rows"], state["best"], state["best_epoch"])
        self.seconds, self.training_seconds = state["seconds"], state["training_seconds"]

    def _record(self, status: Status, reason: str = "") -> Record:
        average = self.parts.average
        trained = self.parts.distiller.student if average is None else average.student
        student = self.parts.distiller.method.merge(trained.network)
        weights = {name: tensor.detach().cpu() for name, tensor in student.state_dict().items()}
        if status == "done" and self.ranks.leads:
            write_atomically(self.paths.student, lambda file: torch.save(weights, file))
        self._tick()
        record = record_of(
            self.run_id,
            self.settings,
            self.curves,
            status=status,
            reason=reason,
            weights=weights,
            attempts=self.paths.attempts,
            data=self.data.identity,
            teacher=self._teacher_facts(),
            weight_files=self.parts.files,
            effective=self._effective(),
            seconds=round(self.seconds, 2),
            images_per_second=round(self._images() / self.training_seconds, 1) if self.training_seconds else None,
        )
        if self.ranks.leads:
            self.settings.store.write(self.run_id, record, curves_csv(self.curves.rows) if self.curves.rows else "")
            checkpoint.remove(self.paths.checkpoint)
        return record

    def _teacher_facts(self) -> dict[str, object] | None:
        if self.parts.teacher is None:
            return None
        stands_in = {"stand_in": self.parts.teacher.source} if self.parts.teacher.stands_in else {}
        sha = self.parts.teacher.weights_sha256
        return {"weights_sha256": sha, **stands_in, **rounded(self.parts.teacher_metrics)}

    def _effective(self) -> dict[str, object]:
        ignored = honouring.require(self.run_id.experiment)
        return {
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "precision": self.run_id.experiment.precision,
            "deterministic": self.device.type == "cpu",
            "step": self.stepper.kind,
            "cuda_graphs": self.graphs is not None,
            "batch": self.recipe.batch,
            "per_device_batch": self._seen_by_norms(),
            "processes": self.ranks.world,
            "shards_a_step": self.parts.shards.count,
            **({"not_in_student": list(self.parts.not_in_student)} if self.parts.not_in_student else {}),
            **({"ignored": ignored} if ignored else {}),
        }

    def _seen_by_norms(self) -> int:
        synchronised = any(isinstance(m, torch.nn.SyncBatchNorm) for m in self.parts.distiller.modules())
        return self.recipe.batch if synchronised else self.recipe.batch // self.parts.shards.total
