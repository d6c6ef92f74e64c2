"""Execution of a plan in this process: each run once, several in turns if asked to, no result lost."""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

import torch

from benchmark.errors import BenchmarkError, StorageError
from benchmark.launch.lease import Held, lease
from benchmark.launch.packed import Advance, Turns
from benchmark.machine.files import storage, sweep_partials, write_text
from benchmark.plan.experiment import Experiment, Plan, Run
from benchmark.records.store import Record, Unreadable, read_record
from benchmark.train import attempts
from benchmark.train.dispatch import Dispatcher, from_files, summary
from benchmark.train.settings import Settings, Stopped

WAIT_SECONDS = 1.0
END, WAITING = -1, -2  # sent to the other ranks instead of the number of a run


class RecordOfNewerFormat(BenchmarkError):
    """A record that a newer program wrote. It is left as it is, and its run is not trained again."""


@dataclass
class PlanOutcome:
    """The outcome of a plan, by run."""

    done: list[Run] = field(default_factory=list)
    already: list[Run] = field(default_factory=list)
    diverged: list[Run] = field(default_factory=list)
    skipped: list[Run] = field(default_factory=list)
    failed: list[tuple[Run, str]] = field(default_factory=list)
    exit_code: int = 0  # of the first failure
    stopped: bool = False

    def fail(self, run: Run, reason: str, exit_code: int = 1) -> None:
        """Record a failure. The other runs continue."""
        self.failed.append((run, reason))
        self.exit_code = self.exit_code or exit_code


class Local:
    """The launcher that executes a plan in this process. It leaves runs of other processes to them and waits."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._dispatcher = Dispatcher(settings)
        self._turns = Turns(settings.pack, torch.device(settings.device), settings.say)
        # Of the last search for runs to start: the number running then, and when to search again.
        self._looked = (0, 0.0)
        self._teachers: set[str] = set()  # identities whose weights other runs of the plan need

    def execute(self, plan: Plan) -> PlanOutcome:
        """Execute every run of the plan, teachers first.

        With several ranks the leader decides, and the others follow.
        """
        with _stopping(self.settings), _threads(self.settings.threads):
            try:
                return self._lead(plan) if self.settings.ranks.leads else self._follow(plan)
            finally:
                self._dispatcher.close()

    def _follow(self, plan: Plan) -> PlanOutcome:
        outcome = PlanOutcome()
        while (index := self.settings.ranks.told(END)) != END:
            if index == WAITING:
                continue
            try:
                for _ in self._dispatcher.steps(plan.runs[index]):
                    pass
            except Stopped:
                outcome.stopped = True
            except BenchmarkError as error:  # every rank has the same error; only the leader prints it
                outcome.fail(plan.runs[index], error.message, error.exit_code)
        return outcome

    def _lead(self, plan: Plan) -> PlanOutcome:
        self._plan = plan
        outcome = self._executed(plan)
        self.settings.ranks.told(END)  # not after an error: the others may be in the middle of a step
        return outcome

    def _executed(self, plan: Plan) -> PlanOutcome:
        self.settings.store.prepare()
        outcome = PlanOutcome()
        found = (run.experiment.teacher for run in plan.runs)
        self._teachers = {teacher.identity for teacher in found if isinstance(teacher, Experiment)}
        waiting, printed = list(plan.runs), list[Run]()
        with contextlib.closing(self._turns):
            while self._turns or (waiting and not outcome.stopped):
                waiting = self._started(waiting, outcome)
                if self._turns:
                    waiting = self._turns.advance() + waiting
                elif waiting and not self.settings.stop.is_set():
                    if waiting != printed:
                        names = ", ".join(run.label for run in waiting[:3])
                        self.settings.say(f"waiting for another process to finish {names}")
                        printed = waiting
                    self.settings.ranks.told(WAITING)
                    self.settings.stop.wait(WAIT_SECONDS)
                outcome.stopped = outcome.stopped or self.settings.stop.is_set()
        return outcome

    def _started(self, waiting: list[Run], outcome: PlanOutcome) -> list[Run]:
        """Start every run that can start and has room. Return the others, in their order."""
        now = time.monotonic()
        if not self._turns.room or (self._turns and len(self._turns) == self._looked[0] and now < self._looked[1]):
            return waiting
        held = []
        for run in waiting:
            room = self._has_room(run) and not outcome.stopped and not self.settings.stop.is_set()
            if not room or not self._attend(run, outcome):
                held.append(run)
        # Other processes finish runs too, which may let one start here. Searching before each step would be too slow.
        self._looked = len(self._turns), time.monotonic() + WAIT_SECONDS
        return held

    def _has_room(self, run: Run) -> bool:
        """Return True if a run may start. Runs that read image files, or that several processes share, run alone."""
        together = (*self._turns.runs, run)
        if len(together) > 1 and (self.settings.ranks.world > 1 or any(map(from_files, together))):
            return False
        return self._turns.room

    def _attend(self, run: Run, outcome: PlanOutcome) -> bool:
        """Start a run unless it is done. Return False if it must wait for another, here or in another process."""
        if self._is_done(run):
            outcome.already.append(run)
            return True
        if not self._teacher_is_there(run):
            reason = self._teacher_failed(run, outcome)
            if reason:
                outcome.fail(run, reason)
            return bool(reason)
        try:
            self._turns.add(run, self._leased(run, outcome))
        except Held:
            return False
        return True

    def _leased(self, run: Run, outcome: PlanOutcome) -> Advance:
        with lease(self.settings.store.paths(run).lease):
            try:
                recorded = self._recorded(run)
            except RecordOfNewerFormat as error:
                outcome.fail(run, str(error))
                return True
            if recorded:  # another process finished it before this one had the lease, or it was restored
                outcome.already.append(run)
                return True
            return (yield from self._guarded(run, outcome))

    def _is_done(self, run: Run) -> bool:
        """Return True if a run has a record, and its weights exist if it is a teacher of other runs in the plan."""
        record = self.settings.store.read(run)
        if record is None:
            return False
        return record.status != "done" or not self._is_teacher(run) or self.settings.store.weights(run) is not None

    def _recorded(self, run: Run) -> bool:
        """Check as `_is_done` does, but fix what can be fixed. Only for the holder of the lease."""
        if self._is_done(run):
            return True
        paths = self.settings.store.paths(run)
        sweep_partials(paths.record.parent, paths.record.stem)
        found = read_record(paths.record)
        if found is None:
            return False
        if isinstance(found, Record) and found.identity == run.experiment.identity:
            self.settings.say(f"{run.label}: has a record but no weights here, so this teacher is trained again")
            paths.attempts.unlink(missing_ok=True)  # the list of attempts belongs to the finished training
            return False
        if isinstance(found, Unreadable) and found.newer:  # a program of that format can use it: it stays
            raise RecordOfNewerFormat(f"{paths.record}: {found.reason}", "or name other folders for its records")
        why = found.reason if isinstance(found, Unreadable) else f"it belongs to {found.identity}"
        spoilt = paths.record.with_suffix(f".unreadable-{int(time.time())}")
        copy = read_record(paths.work / "record.json")
        with storage(paths.record):
            paths.record.replace(spoilt)
            if isinstance(copy, Record) and copy.identity == run.experiment.identity:
                shutil.copy(paths.work / "record.json", paths.record)
                self.settings.say(
                    f"{paths.record}: {why}; restored from the copy in {paths.work}, the old file is {spoilt.name}"
                )
                return True
        self.settings.say(f"{paths.record}: {why}; renamed to {spoilt.name}, and the run is trained again")
        return False

    def _is_teacher(self, run: Run) -> bool:
        return run.repetition == 0 and run.experiment.identity in self._teachers

    def _teacher_is_there(self, run: Run) -> bool:
        teacher = run.experiment.teacher
        if not isinstance(teacher, Experiment):
            return True
        record = self.settings.store.read(Run(teacher, 0))
        return (
            record is not None and record.status == "done" and self.settings.store.weights(Run(teacher, 0)) is not None
        )

    def _teacher_failed(self, run: Run, outcome: PlanOutcome) -> str:
        teacher = run.experiment.teacher
        assert isinstance(teacher, Experiment)
        record = self.settings.store.read(Run(teacher, 0))
        if record is not None and record.status != "done":
            return f"its teacher {teacher.label} is {record.status}: {record.reason}"
        broken = any(failed.experiment.identity == teacher.identity for failed, _ in outcome.failed)
        return f"its teacher {teacher.label} failed" if broken else ""

    def _guarded(self, run: Run, outcome: PlanOutcome) -> Advance:
        paths = self.settings.store.paths(run)
        attempts.begin(paths.attempts, self.settings.threads)
        self.settings.ranks.told(self._plan.runs.index(run))
        try:
            record = yield from self._dispatcher.steps(run)
        except Stopped:
            outcome.stopped = True
            self.settings.say(f"{run.label}: stopped, checkpoint written")
            return True
        except StorageError:
            raise  # a full disk or a folder without write access fails every run: do not try the next one
        except BenchmarkError as error:
            write_text(paths.failure, str(error))
            outcome.fail(run, str(error), error.exit_code)
            self.settings.say(f"{run.label}: FAILED: {error}")
            return True
        except Exception as error:
            if isinstance(error, torch.OutOfMemoryError) and len(self._turns) > 1:
                self._turns.shrink()
                self.settings.say(f"{run.label}: not enough memory beside the others; it resumes when one has ended")
                return False
            write_text(paths.failure, "".join(traceback.format_exception(error)))
            if self.settings.ranks.world > 1:
                raise  # the other ranks are in the middle of a step and cannot be reached: their launcher ends them
            outcome.fail(run, f"{type(error).__name__}: {error} (traceback in {paths.failure})")
            self.settings.say(f"{run.label}: FAILED: {outcome.failed[-1][1]}")
            return True
        paths.failure.unlink(missing_ok=True)
        write_text(paths.work / "record.json", paths.record.read_text())
        {"done": outcome.done, "diverged": outcome.diverged, "skipped": outcome.skipped}[record.status].append(run)
        self.settings.say(summary(run, record))
        return True


@contextmanager
def _stopping(settings: Settings) -> Iterator[None]:
    """Ask for a checkpoint at a first Ctrl-C or SIGTERM, and end at once at a second Ctrl-C."""

    def ask(number: int, frame: FrameType | None) -> None:
        if settings.stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        settings.stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
