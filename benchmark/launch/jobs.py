"""Planning of jobs: teachers before their students, short runs in one job, equal requirements in one array."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmark.errors import UsageError
from benchmark.paper.tasks import TASKS
from benchmark.plan.experiment import Experiment, Plan, Run, ranks_of
from benchmark.records.store import Store

ARRAY_SIZE = 1000  # Slurm's MaxArraySize is 1001 unless a site changed it
SHORTEST_MINUTES, LONGEST_MINUTES = 15, 24 * 60
MARGIN = 1.5  # the estimate is multiplied by it
START_MINUTES = 5.0  # added for loading packages and data from a slow disk


@dataclass(frozen=True)
class Job:
    """A job, which executes its runs one after the other."""

    runs: tuple[Run, ...]
    needs: tuple[Run, ...]  # teachers that another job trains; if that job ended without them, this job trains them
    ranks: int  # processes of each run
    seconds: float  # estimated


@dataclass(frozen=True)
class Array:
    """An array of jobs that request the same resources and wait for the same jobs."""

    jobs: tuple[Job, ...]
    ranks: int
    minutes: int  # wall time of each job
    # This array starts once these have ended: (array, job), or (array, None) for a whole array.
    after: tuple[tuple[int, int | None], ...] = ()
    after_jobs: tuple[str, ...] = ()  # and once these jobs of earlier submissions have ended


@dataclass(frozen=True)
class Wishes:
    """The user's settings for jobs. The plan decides about settings that are None."""

    ranks: int | None = None
    minutes: int | None = None
    batch_minutes: float = 60.0
    max_parallel: int | None = None


def to_do(plan: Plan, store: Store) -> list[Run]:
    """Return the runs without a record, and teachers of such runs whose weights are missing."""
    missing = {run.key for run in plan.runs if store.read(run) is None}
    needed = _teachers(run for run in plan.runs if run.key in missing)
    gone = {key for key, run in needed.items() if key not in missing and _weights_are_gone(run, store)}
    return [run for run in plan.runs if run.key in missing | gone]


def _weights_are_gone(run: Run, store: Store) -> bool:
    record = store.read(run)
    return record is not None and record.status == "done" and store.weights(run) is None


def _teachers(runs: Iterable[Run]) -> dict[str, Run]:
    return {teacher.key: teacher for run in runs if (teacher := run.teacher) is not None}


def refuse_several(runs: Iterable[Run], asked: str, instead: str) -> None:
    """Raise if several processes would train a run of a task that knows no ranks: each would train all of it.

    Args:
        runs: what is to be trained.
        asked: what asks for several processes, with the number.
        instead: what to type, without the names of the suites.

    Raises:
        UsageError: one of the runs is of such a task.
    """
    alone = [run for run in runs if TASKS[run.experiment.task].one_process]
    if alone:
        more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
        tasks = " and ".join(name for name, task in TASKS.items() if task.one_process)
        raise UsageError(f"{asked}: {tasks} train in one process, here {alone[0].label}{more}", instead)


Seconds = Callable[[Experiment], float]


def arrays_of(
    runs: Sequence[Run], seconds: Seconds, wishes: Wishes, submitted: Mapping[str, str] | None = None
) -> list[Array]:
    """Group runs into arrays of jobs. An array waits for the jobs that train the teachers of its runs.

    `submitted` gives the jobs of earlier submissions by the key of a run. With a limit on jobs at a time, arrays follow
    one another, because Slurm applies the limit to each array by itself.
    """
    teachers = _teachers(runs)
    arrays = _packed([run for run in runs if run.key in teachers], Array((), 0, 0), seconds, wishes)
    place = {run.key: (a, j) for a, array in enumerate(arrays) for j, job in enumerate(array.jobs) for run in job.runs}
    groups: dict[Array, list[Run]] = {}  # runs by an array without jobs that has their dependencies
    for run in runs:
        if run.key not in teachers:
            needed = [teacher.key for teacher in [run.teacher] if teacher is not None]
            after = tuple(place[key] for key in needed if key in place)
            after_jobs = tuple((submitted or {})[key] for key in needed if key in (submitted or {}))
            groups.setdefault(Array((), 0, 0, after, after_jobs), []).append(run)
    for wait, members in groups.items():
        arrays += _packed(members, wait, seconds, wishes)
    if wishes.max_parallel is not None:
        arrays = [replace(array, after=((index - 1, None),) if index else ()) for index, array in enumerate(arrays)]
    return arrays


def _packed(runs: Sequence[Run], wait: Array, seconds: Seconds, wishes: Wishes) -> list[Array]:
    """Group runs into arrays of jobs that request the same resources, with the dependencies of the array `wait`."""
    by_need: dict[tuple[int, int], list[Job]] = {}
    by_ranks: dict[int, list[Run]] = {}
    for run in runs:
        by_ranks.setdefault(wishes.ranks or ranks_of(run.experiment), []).append(run)
    for ranks, members in by_ranks.items():
        for job in _batched(members, ranks, seconds, wishes.batch_minutes * 60):
            by_need.setdefault((ranks, wishes.minutes or wall_minutes(job.seconds)), []).append(job)
    return [
        replace(wait, jobs=tuple(jobs[start : start + ARRAY_SIZE]), ranks=ranks, minutes=minutes)
        for (ranks, minutes), jobs in by_need.items()
        for start in range(0, len(jobs), ARRAY_SIZE)
    ]


def _batched(runs: Sequence[Run], ranks: int, seconds: Seconds, limit: float) -> Iterable[Job]:
    batch: list[Run] = []
    filled = 0.0
    for run in runs:
        more = seconds(run.experiment) / ranks
        if batch and filled + more > limit:
            yield _job(batch, ranks, filled)
            batch, filled = [], 0.0
        batch.append(run)
        filled += more
    if batch:
        yield _job(batch, ranks, filled)


def _job(runs: Sequence[Run], ranks: int, seconds: float) -> Job:
    own = {run.key for run in runs}
    needs = tuple(run for key, run in _teachers(runs).items() if key not in own)
    return Job(tuple(runs), needs, ranks, seconds)


def wall_minutes(seconds: float) -> int:
    """Return the minutes to request: the estimate with a margin, rounded up to 15 minutes times a power of 2.

    Rounding lets jobs of similar length share an array. At most a day is requested.
    """
    wanted = seconds / 60 * MARGIN + START_MINUTES
    doublings = math.ceil(math.log2(max(1.0, wanted / SHORTEST_MINUTES)))
    return min(LONGEST_MINUTES, SHORTEST_MINUTES << doublings)


def shared_out(runs: Sequence[Run], places: int, seconds: Seconds, wishes: Wishes) -> list[Job]:
    """Return one job for each of `places` processes on this machine. Every job has all runs, in another order.

    A job skips the runs that another job has finished or is training, so that the jobs share the work.
    """
    if wishes.ranks not in (None, 1) and places > 1:
        raise UsageError(
            f"{places} jobs at a time, but a run of {wishes.ranks} processes needs all devices", "--max-parallel 1"
        )
    teachers = _teachers(runs)
    first = [run for run in runs if run.key in teachers]
    rest = [run for run in runs if run.key not in teachers]
    spent = sum(seconds(run.experiment) for run in runs)
    ranks = wishes.ranks or 1
    rotated = [(_turned(first, n, places), _turned(rest, n, places)) for n in range(min(places, len(runs)))]
    return [Job((*one, *other), (), ranks, spent / len(rotated)) for one, other in rotated]


def _turned(runs: list[Run], number: int, places: int) -> list[Run]:
    at = len(runs) * number // places
    return runs[at:] + runs[:at]
