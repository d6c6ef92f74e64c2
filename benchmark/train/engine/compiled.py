"""The step's two forward passes, compiled if a compiler is available and the run is long enough to benefit.

The losses and their gradients become one program each, the frozen teacher another with its weights laid out for the
kernels. Random draws stay outside: a method's draws from its moment are recorded once, then drawn from the run's own
generator before each step and passed in. So a compiled run gets the same numbers as an eager one.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import torch
from torch import Tensor

from benchmark.plan.estimate import Measured, seconds
from benchmark.plan.experiment import Experiment
from benchmark.train.engine.assembly import Assembly
from benchmark.train.engine.distiller import StepLosses
from methods.base import Batch, Moment

if TYPE_CHECKING:
    from torch._inductor.custom_graph_pass import CustomGraphPass

# Measured for DiffKD between resnet56 and resnet20 (docs/performance.md); `auto` compiles where it would save thrice
# what it costs.
COMPILE_SECONDS = 150.0
SAVING = 0.15  # of an eager run's time
EARNED_BACK = 3.0

# How far a compiled step's loss may be from the eager one's: sums in another order.
TOLERANCES = {"fp32": 1e-5, "tf32": 1e-3, "bf16": 2e-2, "fp16": 1e-2}


class NotCompiled(Exception):
    """Compilation failed, or its result was wrong. The message says why."""


@dataclass(frozen=True)
class Draw:
    """A random draw that a method makes in each step: normal if `high` is None, else integers below `high`."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    high: int | None = None

    def __call__(self, moment: Moment) -> Tensor:
        """Return this step's draw from the run's own stream."""
        device = moment.epoch.device
        if self.high is not None:
            return moment.integers(self.high, self.shape, device)
        return moment.normal_like(torch.empty(self.shape, dtype=self.dtype, device=device))


@dataclass(frozen=True)
class Recording(Moment):
    """A moment that records which draws are made from it."""

    draws: list[Draw] = field(default_factory=list)

    def normal_like(self, tensor: Tensor) -> Tensor:
        """Return a normal draw and record it."""
        self.draws.append(Draw(tuple(tensor.shape), tensor.dtype))
        return super().normal_like(tensor)

    def integers(self, high: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Return an integer draw and record it."""
        self.draws.append(Draw(tuple(shape), torch.int64, high))
        return super().integers(high, shape, device)


@dataclass(frozen=True)
class Drawn(Moment):
    """A moment that returns draws made beforehand, in the order in which they are requested."""

    draws: list[Tensor] = field(default_factory=list)

    def normal_like(self, tensor: Tensor) -> Tensor:
        """Return the next draw."""
        return self.draws.pop(0)

    def integers(self, high: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Return the next draw."""
        return self.draws.pop(0)


class Compiled:
    """Compiled versions of a run's teacher and distiller for full batches. Other batches use the eager ones."""

    def __init__(self, parts: Assembly, cache: Path) -> None:
        # Named before inductor is first asked for its folder; a folder that the environment names wins.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))
        self.parts = parts
        self._draws: list[Draw] = []
        self._full = 0  # images of a full batch
        self._teacher: Callable[[Tensor], Mapping[str, Tensor]] | None = None
        self._losses: Callable[..., tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]] | None = None

    def prepare(self, batch: Batch, tolerance: float, precision: Callable[[], AbstractContextManager[object]]) -> float:
        """Compile for batches of this size and compare with the eager step; return the seconds.

        The run's state is unchanged.

        `precision` returns the context in which forward passes run.

        Raises:
            NotCompiled: it cannot be done here, and why.
        """
        began = time.monotonic()
        moment = self.parts.moment
        with self.parts.undone(), precision():
            seen = self.parts.taught(batch.inputs)
            recording = Recording(moment.epoch, moment.progress, moment.generator, moment.gather, step=moment.step)
            expected = float(self.parts.distiller(batch, seen, recording).total.detach())
        self._draws = recording.draws
        try:
            with self.parts.undone():
                with precision():
                    self._full = len(batch.inputs)
                    self._teacher, self._losses = self._compiled_teacher(), self._compiled_losses()
                    found = self.losses(batch, self.teach(batch.inputs), moment)
                found.total.backward()  # type: ignore[no-untyped-call]
                total = float(found.total.detach())
        except Exception as error:  # compilers raise anything
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
            raise NotCompiled(f"{type(error).__name__}: {lines[0]}") from error
        finally:
            self.parts.optimizer.zero_grad(set_to_none=True)
        if not abs(total - expected) <= tolerance * abs(expected):
            raise NotCompiled(f"the compiled loss is {total:.7g}, the eager one {expected:.7g}")
        return time.monotonic() - began

    def teach(self, inputs: Tensor) -> Mapping[str, Tensor]:
        """Return the teacher's outputs by role."""
        if self._teacher is None or len(inputs) != self._full:
            return self.parts.taught(inputs)
        with torch.no_grad(), _frozen():
            return self._teacher(inputs)

    def losses(self, batch: Batch, seen: Mapping[str, Tensor], moment: Moment) -> StepLosses:
        """Return the losses that the distiller's own forward pass would return."""
        if self._losses is None or len(batch.inputs) != self._full:
            step: StepLosses = self.parts.distiller(batch, seen, moment)
            return step
        draws = [draw(moment) for draw in self._draws]
        total, terms, tracked = self._losses(
            batch.inputs, batch.targets, batch.indices, dict(seen), moment.epoch, moment.progress, moment.step, draws
        )
        return StepLosses(total, terms, tracked)

    def _passed(
        self,
        inputs: Tensor,
        targets: Tensor,
        indices: Tensor,
        seen: dict[str, Tensor],
        epoch: Tensor,
        progress: Tensor,
        step: Tensor | None,
        draws: list[Tensor],
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        moment = Drawn(epoch, progress, None, step=step, draws=list(draws))  # type: ignore[arg-type]
        found = self.parts.distiller(Batch(inputs, targets, indices), seen, moment)
        return found.total, dict(found.terms), dict(found.tracked)

    def _taught(self, inputs: Tensor) -> Mapping[str, Tensor]:
        assert self.parts.frozen is not None
        seen: Mapping[str, Tensor] = self.parts.frozen(inputs)
        return seen

    def _compiled_teacher(self) -> Callable[[Tensor], Mapping[str, Tensor]] | None:
        return None if self.parts.frozen is None else torch.compile(_own(self._taught), dynamic=False, fullgraph=True)

    def _compiled_losses(self) -> Callable[..., tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]]:
        on_cpu = self.parts.moment.epoch.device.type == "cpu"
        options: dict[str, str | int | bool | Callable[..., object]] = {}
        if on_cpu:
            options["joint_custom_post_pass"] = _without_masks()
        return torch.compile(_own(self._passed), dynamic=False, fullgraph=True, options=options)


P = ParamSpec("P")
Result = TypeVar("Result")
_numbers = count()


def _own(method: Callable[P, Result]) -> Callable[P, Result]:
    """Return a method with its own code object.

    Torch caches at most eight programs per code; a process may have more runs.
    """
    assert isinstance(method, MethodType)
    function = method.__func__
    assert isinstance(function, FunctionType)
    code = function.__code__.replace(co_name=f"{function.__name__}_{next(_numbers)}")
    return MethodType(FunctionType(code, function.__globals__, code.co_name), method.__self__)


def _without_masks() -> CustomGraphPass:
    """Return a graph pass for CPUs: the backward pass recomputes where rectifiers let gradients through.

    By default that mask is stored, and written number by number. This takes ten times as long as the batch norm
    before it.
    """
    from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
    from torch.utils.checkpoint import CheckpointPolicy

    class WithoutMasks(CustomGraphPass):
        def __call__(self, graph: torch.fx.Graph) -> None:
            for comparison in ("le", "lt", "ge", "gt"):
                for node in graph.find_nodes(op="call_function", target=getattr(torch.ops.aten, comparison).Scalar):
                    node.meta["recompute"] = CheckpointPolicy.MUST_RECOMPUTE

        def uuid(self) -> bytes:
            return get_hash_for_files((__file__,))

    return WithoutMasks()


@contextlib.contextmanager
def _frozen() -> Iterator[None]:
    """Make the weights of everything compiled in this context constants, laid out for its kernels.

    Only for a teacher.
    """
    import torch._inductor.config as inductor

    before = inductor.freezing
    inductor.freezing = True
    try:
        yield
    finally:
        inductor.freezing = before


def worth_it(experiment: Experiment, device: str, measured: Measured | None = None) -> tuple[bool, str]:
    """Return True if a run is long enough to repay a compilation, and the calculation in words."""
    saved = SAVING * seconds(experiment, device, measured)
    needed = EARNED_BACK * COMPILE_SECONDS
    verdict = f"it would save roughly {saved:.0f} s and cost {COMPILE_SECONDS:.0f} s; it must save {needed:.0f} s"
    return saved >= needed, verdict
