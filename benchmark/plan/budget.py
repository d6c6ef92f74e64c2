"""The cost of a plan: device-hours, duration on a number of devices, disk use. Arithmetic only, nothing is run."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from benchmark.errors import BenchmarkError
from benchmark.models.registry import model
from benchmark.plan.estimate import SIDE_NETWORKS, Measured, seconds
from benchmark.plan.experiment import Experiment, Run, ranks_of

# Files of a finished run: its record and a copy of it, curves, weights, the list of its attempts, the lease's guard.
FILES = 6
RECORD_BYTES = 4096
CURVE_BYTES = 400  # for each epoch
DETECTOR_BYTES = 4 * 38_000_000  # weights of a ResNet-50 RetinaNet
COPIES = 2  # checkpoints that are kept: the last and the one before


@dataclass(frozen=True)
class Budget:
    """The cost of a plan."""

    runs: int
    hours: float  # on one device
    files: int  # that stay when all runs are done
    kept_bytes: int  # size of these files
    working_bytes: int  # in addition, at most, for each run that is being trained
    longest_hours: float  # of a run together with the teacher that it waits for

    def table(self, lasting: dict[int, float], device: str) -> str:
        """Format the budget for a terminal. `lasting` gives the hours by number of devices."""
        name = "GPU" if device == "cuda" else device
        lines = [
            f"{self.runs:,} runs, {self.hours:,.0f} {name}-hours",
            f"{_size(self.kept_bytes)} in {self.files:,} files when all runs are done",
            f"at most {_size(self.working_bytes)} of checkpoints for each run that is being trained",
            *(f"{count} {name}{'s' * (count > 1)}: {_days(hours)}" for count, hours in lasting.items()),
            f"at least {_days(self.longest_hours)} on any number: the longest run after its teacher",
        ]
        return "\n".join(f"  {line}" for line in lines)


def budget(runs: Sequence[Run], device: str, measured: Measured | None = None) -> Budget:
    """Return the cost of a plan, summed over its runs."""
    spent = _spender(runs, device, measured)
    chains = []
    for run in runs:
        links = [run.experiment, *([teacher.experiment] if (teacher := run.teacher) is not None else [])]
        chains.append(sum(spent(experiment) / ranks_of(experiment) for experiment in links))
    return Budget(
        runs=len(runs),
        hours=sum(spent(run.experiment) for run in runs) / 3600,
        files=sum(FILES + (run.experiment.teacher is not None) for run in runs),  # with side networks
        kept_bytes=sum(_kept(run.experiment) for run in runs),
        working_bytes=max((_working(run.experiment) for run in runs), default=0),
        longest_hours=max(chains, default=0.0) / 3600,
    )


def lasts(runs: Sequence[Run], device: str, devices: int, measured: Measured | None = None) -> float:
    """Return the hours that the runs take on a number of devices. A student starts when its teacher has finished.

    A run uses as many devices as its recipe says, or all of them if there are fewer.
    """
    spent = _spender(runs, device, measured)
    free = [0.0] * devices
    ended: dict[str, float] = {}
    teachers = {teacher.key for run in runs if (teacher := run.teacher) is not None}
    for run in sorted(runs, key=lambda run: (run.key not in teachers, run.teacher is not None)):
        teacher = run.teacher
        ready = ended.get(teacher.key, 0.0) if teacher is not None else 0.0
        ranks = min(ranks_of(run.experiment), devices)
        end = max(ready, *(heapq.heappop(free) for _ in range(ranks))) + spent(run.experiment) / ranks
        for _ in range(ranks):
            heapq.heappush(free, end)
        if run.key in teachers:
            ended[run.key] = end
    return max(free) / 3600


def _spender(runs: Sequence[Run], device: str, measured: Measured | None) -> Callable[[Experiment], float]:
    known: dict[str, float] = {}
    scale = measured.scale([run.experiment for run in runs], device) if measured is not None else 1.0

    def spent(experiment: Experiment) -> float:
        if experiment.identity not in known:
            known[experiment.identity] = seconds(experiment, device, measured, scale)
        return known[experiment.identity]

    return spent


@cache
def _weight_bytes(name: str, classes: int = 100) -> int:
    try:
        network = model(name).on_meta(classes)
    except (ImportError, BenchmarkError):  # the network belongs to a package that is not installed
        return DETECTOR_BYTES
    return sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())


def _kept(experiment: Experiment) -> int:
    if experiment.recipe is None:
        return 2 * RECORD_BYTES
    curves = experiment.recipe.epochs * CURVE_BYTES
    return int(2 * RECORD_BYTES + curves + _sides(experiment) * _weight_bytes(experiment.student))


def _working(experiment: Experiment) -> int:
    """Return the bytes of checkpoints: weights, side networks, and the optimizer's state for each."""
    if experiment.recipe is None:
        return 0
    states = {"sgd": 1, "adamw": 2, "rmsproptf": 2}[experiment.recipe.optimizer]
    return int(COPIES * (1 + states) * _sides(experiment) * _weight_bytes(experiment.student))


def _sides(experiment: Experiment) -> float:
    """Return how many times the student's size the student and the method's side networks have."""
    return SIDE_NETWORKS if experiment.teacher is not None else 1.0


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _days(hours: float) -> str:
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"
