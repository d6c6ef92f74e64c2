"""Measured cost: the step time and memory of every method and of the plain student, on one batch in one process.

Methods take turns step by step, so that other load on the machine slows all of them alike. The reported number is the
ratio to the plain student's step in the same round.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmark.data.random_images import noise
from benchmark.errors import CannotServe, UsageError, nearest
from benchmark.machine import provenance
from benchmark.machine.devices import hardware
from benchmark.machine.saying import Say
from benchmark.models import counting
from benchmark.models.registry import model, models
from benchmark.paper import datasets
from benchmark.paper.suite import Cell, Suite, TeacherSpec
from benchmark.plan.experiment import Run
from benchmark.records.store import Store
from benchmark.train.classification.training import Training
from benchmark.train.settings import Settings
from benchmark.verify import method_cost
from benchmark.verify.exported_students import experiment
from methods.spec import MethodSpec

PLAIN = "none"
WARM_UP = 3  # untimed steps of each method, in which allocators fill and convolutions choose their algorithm


@dataclass(frozen=True)
class Cost:
    """One method's cost. Ratios are to the plain student: the median over rounds, and its quartiles."""

    method: str
    step_ms: float
    time_ratio: float
    time_low: float
    time_high: float
    memory_mb: float
    memory_ratio: float
    counted_ratio: float  # of the multiply-adds of a whole step, teacher and side networks included
    gain: float | None = None  # published gain over the student in points; None if no table has the pair
    gain_source: str = ""  # the suite that prints the gain


Circumstances = Mapping[str, Mapping[str, str | int]]


def circumstances(device: str) -> Circumstances:
    """Return the versions of packages and the hardware, which every measurement depends on."""
    return {"packages": provenance.packages(), "hardware": hardware(device)}


@dataclass
class Bench:
    """The costs of all measured methods, with the circumstances of the measurement."""

    pair: str
    batch: int
    rounds: int
    device: str
    threads: int
    costs: list[Cost] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    circumstances: Circumstances = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Return all fields as plain JSON."""
        return asdict(self)


def parse_pair(text: str) -> tuple[str, str]:
    """Split `resnet56-resnet20` into teacher and student.

    Raises:
        UsageError: the text is not made of two registered networks.
    """
    known = models()
    for position, character in enumerate(text):
        teacher, student = text[:position], text[position + 1 :]
        if character == "-" and teacher in known and student in known:
            return teacher, student
    fix = f"TEACHER-STUDENT, such as resnet56-resnet20; {nearest(text.split('-')[0], known)}"
    raise UsageError(f"{text!r} is not a pair of networks", fix)


class Timed(Protocol):
    """A step that is timed in turns with other steps."""

    method: str

    def step(self) -> None:
        """Run one step, and wait for the device."""

    def seconds(self) -> float:
        """Return the seconds of one step."""


class Contestant:
    """One method's training, one step at a time. Subclass or wrap it to compare other implementations of a step."""

    def __init__(self, method: str, pair: tuple[str, str], batch: int, weights: Path, settings: Settings) -> None:
        teacher, student = pair
        self.method = method
        data = noise(batch, settings.device)
        asked = experiment(method, student, teacher, weights, batch)
        self.training = Training(Run(asked, 0), data, settings)
        self.plan = data.epoch_plan(0, 0)

    def step(self) -> None:
        """Train one step as the engine does (forward, backward, update), and wait for the device."""
        self.training.one_step(self.plan)
        self.wait()

    def wait(self) -> None:
        """Wait until the device has finished."""
        if self.training.device.type == "cuda":
            torch.cuda.synchronize(self.training.device)

    def seconds(self) -> float:
        """Return the seconds of one step."""
        self.wait()
        began = time.perf_counter()
        self.step()
        return time.perf_counter() - began

    def memory(self) -> int:
        """Return the sum of two sizes in bytes: memory held between steps, and the peak that one step adds."""
        # A step makes its gradients anew and counts them. Gradients of an earlier step would be counted twice.
        self.training.parts.optimizer.zero_grad(set_to_none=True)
        return self._kept() + self._added()

    def _kept(self) -> int:
        parts = self.training.parts
        modules = [parts.distiller, *([parts.frozen] if parts.frozen is not None else [])]
        tensors: list[Tensor] = [t for module in modules for t in (*module.parameters(), *module.buffers())]
        tensors += [t for state in parts.optimizer.state.values() for t in state.values() if isinstance(t, Tensor)]
        return sum({t.data_ptr(): t.numel() * t.element_size() for t in tensors}.values())

    def _added(self) -> int:
        device = self.training.device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            self.step()
            return torch.cuda.max_memory_allocated(device) - before
        with _silent(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            self.step()
        return peak(_allocations(profiler))


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Suppress standard error, to which the profiler's native code writes. `redirect_stderr` would not reach that."""
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _allocations(profiler: Any) -> list[int]:  # torch has no types for kineto_results and its events
    """Return the bytes that torch allocates (positive) and frees (negative), in order of time."""
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    return [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]


def peak(changes: Iterable[int]) -> int:
    """Return the highest running sum of the changes; at least 0."""
    highest = level = 0
    for change in changes:
        level += change
        highest = max(highest, level)
    return highest


def run(names: Sequence[str], pair: str, batch: int, rounds: int, settings: Settings, say: Say) -> Bench:
    """Measure the plain student and every named method that can serve the pair."""
    networks = parse_pair(pair)
    bench = Bench(pair, batch, rounds, settings.device, torch.get_num_threads())
    bench.circumstances = circumstances(settings.device)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "teacher.pt"
        torch.manual_seed(0)
        torch.save(model(networks[0]).build(100).state_dict(), weights)
        settings.store = Store(Path(folder) / "results", Path(folder) / "runs")
        contestants: list[Contestant] = []
        for name in (PLAIN, *(name for name in names if name != PLAIN)):
            try:
                contestants.append(Contestant(name, networks, batch, weights, settings))
            except CannotServe as reason:
                bench.skipped[name] = reason.message
        times = interleaved(contestants, rounds, say)
        say("measuring memory")
        memory = {contestant.method: contestant.memory() for contestant in contestants}
    counted = {contestant.method: counted_macs(contestant.method, networks, batch) for contestant in contestants}
    bench.costs = [_cost(name, times, memory, counted) for name in times]
    return bench


def interleaved(contestants: Sequence[Timed], rounds: int, say: Say) -> dict[str, list[float]]:
    """Return the seconds of each method's step in each round."""
    for contestant in contestants:
        say(f"warming up {contestant.method}")
        for _ in range(WARM_UP):
            contestant.step()
    times: dict[str, list[float]] = {contestant.method: [] for contestant in contestants}
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        # Each round starts with another method, so that no method always has the first turn.
        turn = number % len(contestants)
        for contestant in (*contestants[turn:], *contestants[:turn]):
            times[contestant.method].append(contestant.seconds())
    return times


def counted_macs(name: str, networks: tuple[str, str], batch: int) -> int:
    """Count a step's multiply-adds per image, those of student, teacher and method together.

    The student's backward pass counts as two forward passes.
    """
    teacher, student = networks
    pair = method_cost.pair_on_meta(student, teacher, "cifar100")
    shape = (1, *datasets.counted_on("cifar100").counted)
    spec = MethodSpec.parse(name)
    method = spec.make()
    if not spec.needs_teacher:
        return 3 * counting.macs(method.wrap_student(pair.student.network), shape)
    method_cost.build_on_meta(method, pair)
    with torch.device("meta"):
        wrapped = method.wrap_student(pair.student.network)
    trained, taught = counting.macs(wrapped, shape), counting.macs(pair.teacher.network, shape)
    added = method_cost.method_cost(method, pair, batch)
    return 3 * trained + taught + added.forward + added.backward


def _cost(name: str, times: dict[str, list[float]], memory: dict[str, int], counted: dict[str, int]) -> Cost:
    ratios = [own / plain for own, plain in zip(times[name], times[PLAIN], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return Cost(
        method=name,
        step_ms=round(1000 * statistics.median(times[name]), 2),
        time_ratio=round(middle, 3),
        time_low=round(low, 3),
        time_high=round(high, 3),
        memory_mb=round(memory[name] / 2**20, 2),
        memory_ratio=round(memory[name] / memory[PLAIN], 3),
        counted_ratio=round(counted[name] / counted[PLAIN], 3),
    )


def published_gains(suites: Iterable[Suite], pair: str) -> dict[str, tuple[float, str]]:
    """Return by method the published gain over the student in top-1 points, and the suite that prints it."""
    for suite in suites:
        cells = [cell for cell in suite.cells if _prints(cell, pair)]
        plain = next((cell.value for cell in cells if cell.setting.method == PLAIN), None)
        named = {cell.setting.method: cell for cell in cells if isinstance(cell.setting.method, str)}
        named |= {next(iter(c.setting.method)): c for c in cells if isinstance(c.setting.method, dict)}
        if plain is not None and len(named) > 1:
            gains = {str(name): cell.value - plain for name, cell in named.items() if cell.value is not None}
            return {name: (round(gain, 2), suite.name) for name, gain in gains.items() if name != PLAIN}
    return {}


def _prints(cell: Cell, pair: str) -> bool:
    teacher = cell.setting.teacher
    named = teacher.model if isinstance(teacher, TeacherSpec) else teacher
    is_student = cell.setting.subject != "teacher"
    return is_student and cell.metric == "top1" and cell.value is not None and f"{named}-{cell.setting.student}" == pair
