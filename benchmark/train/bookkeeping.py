"""The bookkeeping of one run, the same for every task: curves, time, checkpoints, progress, stopping and the record.

A task brings how a step is made, how a student is tested, and its own state as a checkpoint holds it.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypedDict

import torch
from torch import Tensor

from benchmark.errors import Diverged
from benchmark.machine.files import sweep_partials, write_atomically
from benchmark.paper.tasks import TASKS
from benchmark.plan.experiment import Run
from benchmark.records.store import Record, RunPaths, Status, curves_csv
from benchmark.train import attempts, checkpoint, honouring
from benchmark.train.clock import Clock
from benchmark.train.first_use import WeightFiles
from benchmark.train.meter import Meter
from benchmark.train.outcome import Curves, record_of
from benchmark.train.settings import HISTOGRAMS, Progress, Settings, Stopped
from methods.base import Method


class BooksState(TypedDict):
    """The bookkeeping's part of a checkpoint."""

    identity: str
    repetition: int
    teacher_sha256: str | None
    rows: list[dict[str, float]]
    best: dict[str, float]
    best_epoch: int | None
    seconds: float
    training_seconds: float


class Trained(Protocol):
    """A training whose books are kept."""

    def state(self) -> Mapping[str, object]:
        """Return all that a checkpoint must hold, the state of the books included."""

    def restore(self, state: Mapping[str, object]) -> int:
        """Load such a state, and return the number of steps done."""


@dataclass(frozen=True)
class Ended:
    """A task's part of the record of a training that ended."""

    weights: Mapping[str, Tensor]  # of the plain student
    side_networks: Mapping[str, Tensor]  # of the method
    data: Mapping[str, object]
    teacher: dict[str, object] | None
    weight_files: WeightFiles
    effective: dict[str, object]  # what the books do not know: batch sizes, how a step was made


class Bookkeeping:
    """The books of one run.

    Args:
        run: the run.
        settings: where and how it executes.
        training: whose state checkpoints hold.
        steps: of the whole training.
        epoch_steps: of an epoch.
        images: training images of an epoch.
        batch: training images of a step.
        teacher_sha256: of the weights of the teacher, None without one.
    """

    def __init__(
        self,
        run: Run,
        settings: Settings,
        training: Trained,
        *,
        steps: int,
        epoch_steps: int,
        images: int,
        batch: int,
        teacher_sha256: str | None,
    ) -> None:
        self.run, self.settings, self.training = run, settings, training
        self.paths: RunPaths = settings.store.paths(run)
        self.steps, self.epoch_steps = steps, epoch_steps
        self.curves = Curves()
        self.clock = Clock()
        self._images, self._batch, self._teacher = images, batch, teacher_sha256
        self._saved = time.monotonic()

    # Checkpoints

    def state(self) -> BooksState:
        """Return what the books add to a checkpoint."""
        return {
            "identity": self.run.experiment.identity,
            "repetition": self.run.repetition,
            "teacher_sha256": self._teacher,
            "rows": self.curves.rows,
            "best": self.curves.best,
            "best_epoch": self.curves.best_row,
            "seconds": self.clock.seconds,
            "training_seconds": self.clock.training_seconds,
        }

    def restore(self, state: BooksState) -> None:
        """Load what the books added to a checkpoint.

        Raises:
            BenchmarkError: the run began with other weights of its teacher.
        """
        began_with = state.get("teacher_sha256")  # format 1 has none
        checkpoint.check_teacher(self.run, began_with, self._teacher, self.paths.work)
        self.curves = Curves(state["rows"], state["best"], state["best_epoch"])
        self.clock.restart(state["seconds"], state["training_seconds"])

    def save(self, step: int) -> None:
        """Write a checkpoint after so many steps. All ranks take part; the leader writes."""
        with self.clock.pausing():
            state = self.training.state()
            if self.settings.ranks.leads:
                checkpoint.save(self.paths.checkpoint, state, self.run, step)
        self._saved = time.monotonic()

    def resume(self) -> int:
        """Restore the newest usable checkpoint, if there is one. Return the number of steps done."""
        if self.settings.ranks.leads:
            sweep_partials(self.paths.work)
        fresh: Mapping[str, object] | None = None
        while (found := self._found()) is not None:
            if fresh is None and not found.sealed:
                fresh = copy.deepcopy(self.training.state())
            if (step := self._restored(found)) is not None:
                break
        else:
            if fresh is not None:  # a damaged checkpoint may have been read in part
                self.training.restore(fresh)
            return 0
        if self.settings.ranks.leads:
            attempts.resumed(self.paths.attempts, step, round(self.clock.seconds, 2))
        if not found.sealed:
            self.settings.say(checkpoint.renewed(found))
            self.save(step)
        epoch, within = divmod(max(0, step - 1), self.epoch_steps)
        self.settings.say(f"{self.run.label}: resuming from epoch {epoch + 1}, step {within + 1} of {self.epoch_steps}")
        return step

    def _found(self) -> checkpoint.UsableCheckpoint | None:
        """Return the checkpoint chosen by the leader, read by every rank; None if there is none."""
        path, ranks = self.paths.checkpoint, self.settings.ranks
        found = checkpoint.load(path, self.run, self.settings.say) if ranks.leads else None
        chosen = ranks.told((found.path.name, found.sha256) if found is not None else None)
        if chosen is None or ranks.world == 1:
            return found

        def same() -> checkpoint.UsableCheckpoint:
            return found or checkpoint.load_same(path.with_name(chosen[0]), self.run, chosen[1])

        return ranks.together(same)

    def _restored(self, found: checkpoint.UsableCheckpoint) -> int | None:
        """Restore a checkpoint and return its steps; if its content does not fit this run, set it aside."""
        try:
            return self.training.restore(found.state)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            checkpoint.refused(found, error, self.settings.say, self.settings.ranks.leads)
            return None

    # Between two steps

    def after_step(self, step: int, last: bool = False) -> None:
        """Write a checkpoint if one is due or the step is the last, and stop if asked to.

        All ranks stop after the same step, and all write their part when the leader finds that it is time.

        Raises:
            Stopped: asked to stop, the checkpoint is written.
        """
        due = self.settings.ranks.leads and time.monotonic() - self._saved > self.settings.checkpoint_seconds
        stopping, saving = self.settings.ranks.any(self.settings.stop.is_set(), due)
        if stopping or saving or last:
            self.save(step)
        if stopping:
            raise Stopped

    def check(self, meter: Meter) -> None:
        """Raise if a loss is no longer a finite number, and name the first step with one.

        Raises:
            Diverged: it is not.
        """
        broken = [found for found in self.settings.ranks.all(meter.first_broken()) if found is not None]
        if broken:
            step, term = min(broken)
            raise Diverged(f"{term} is not a finite number at step {step} (epoch {step // self.epoch_steps + 1})")

    def report(self, step: int) -> None:
        """Report the progress after so many steps."""
        self.clock.tick()
        trained = self.clock.training_seconds
        epoch, within = divmod(step - 1, self.epoch_steps)
        self.settings.progress(
            Progress(
                run=self.run,
                epoch=epoch + 1,
                epochs=-(-self.steps // self.epoch_steps),
                step=within + 1,
                steps=self.epoch_steps,
                seconds_left=(self.steps - step) * trained / max(1, step),
                images_per_second=self._seen(step) / trained if trained else 0.0,
                metrics=self.curves.last("test."),
            )
        )

    def add(
        self,
        step: int,
        row: Mapping[str, float],
        meter: Meter,
        metrics: Mapping[str, float],
        telemetry: Mapping[str, float],
        bins: bool,
    ) -> None:
        """Add an evaluation to the curves. `bins`: with the histograms of what the meter tracked.

        Telemetry is written to the curves alone: no record has it.

        Raises:
            Diverged: a metric is not a finite number.
        """
        broken = [name for name, value in metrics.items() if not math.isfinite(value)]
        if broken:
            epoch = (step - 1) // self.epoch_steps + 1
            raise Diverged(f"test {broken[0]} is not a finite number after step {step - 1} (epoch {epoch})")
        found = meter.means() | (meter.histograms() if bins else {})
        trained = {f"train.{name}": value for name, value in found.items()}
        sampled = {f"telemetry.{name}": value for name, value in {**telemetry, **meter.clipped()}.items()}
        self.curves.add({**row, **trained, **sampled}, metrics, TASKS[self.run.experiment.task].metric)

    def _seen(self, step: int) -> int:
        """Return the number of images that were trained on in so many steps. An epoch's last batch may be smaller."""
        epochs, rest = divmod(step, self.epoch_steps)
        return epochs * self._images + rest * self._batch

    # The end

    def close(self, status: Status, reason: str, step: int, ended: Ended) -> Record:
        """Write what remains of a run that ended: student, side networks, curves and record. Return the record."""
        self.clock.ended()
        files = {self.paths.student: ended.weights}
        if self.settings.keep_side_networks:
            files[self.paths.side_networks] = ended.side_networks
        if status == "done" and self.settings.ranks.leads:
            for path, tensors in files.items():
                if tensors:
                    kept = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
                    write_atomically(path, lambda file, kept=kept: torch.save(kept, file))  # type: ignore[misc]
        self.clock.tick()
        trained = self.clock.training_seconds
        ignored = honouring.require(self.run.experiment)
        device = torch.device(self.settings.device)
        common = {
            "device": str(device),
            "threads": torch.get_num_threads(),
            "precision": self.run.experiment.precision,
            "deterministic": device.type == "cpu",
        }
        record = record_of(
            self.run,
            self.settings,
            self.curves,
            status=status,
            reason=reason,
            weights=ended.weights,
            attempts_file=self.paths.attempts,
            data=ended.data,
            teacher=ended.teacher,
            weight_files=ended.weight_files,
            effective=common | ended.effective | ({"ignored": ignored} if ignored else {}),
            seconds=round(self.clock.seconds, 2),
            images_per_second=round(self._seen(step) / trained, 2) if trained else None,
        )
        if self.settings.ranks.leads:
            self.settings.store.write(self.run, record, curves_csv(self.curves.rows) if self.curves.rows else "")
            checkpoint.remove(self.paths.checkpoint)
        return record


def learned(method: Method) -> dict[str, Tensor]:
    """Return a method's side networks: parameters, and the statistics of norms. Memory banks are left out."""
    kept = {name for name, _ in method.named_parameters()}
    for place, module in method.named_modules():
        if next(module.parameters(recurse=False), None) is not None:
            kept |= {f"{place}.{name}" for name, _ in module.named_buffers(recurse=False)}
    return {name: tensor for name, tensor in method.state_dict().items() if name in kept}


def with_histograms(done: int, planned: int) -> bool:
    """Return True if the evaluation after which `done` of `planned` are done keeps histograms: some HISTOGRAMS do."""
    return done == 1 or done % max(1, planned // HISTOGRAMS) == 0
