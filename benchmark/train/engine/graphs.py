"""The whole step as CUDA graphs: augmentation, teacher, student, losses, backward pass, update and sums are one launch.

A graph replays fixed work on fixed addresses, so what changes from step to step is read from tensors: the part of the
epoch's plan, the learning rate, the epoch and progress, the number of the step. An epoch has two sizes of batch, full
and last, hence two graphs, captured when a size is first seen.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from benchmark.data.augment import CropFlipPlan
from benchmark.data.on_device import DeviceData
from benchmark.train.engine.optimizer import hold_rates_in_tensors
from benchmark.train.engine.step import Stepper
from benchmark.train.meter import Meter

WARM_UP_STEPS = 3  # steps before a capture: kernels are chosen, libraries initialised, optimiser state made


class Graph(Protocol):
    """A captured graph."""

    def replay(self) -> None:
        """Run the captured work again, on the tensors' present values."""


Capture = Callable[[Callable[[], None], torch.Generator], Graph]


def on_cuda(work: Callable[[], None], generator: torch.Generator) -> Graph:
    """Capture work whose random draws come from a generator of the device."""
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    # The other streams of this process may be busy with other runs: only this thread's mistakes count.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    made: Graph = graph
    return made


def warmed_up_on_cuda(work: Callable[[], None]) -> None:
    """Run work on a side stream, as capturing requires."""
    beside, current = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
    beside.wait_stream(current)
    with torch.cuda.stream(beside):
        work()
    current.wait_stream(beside)


@dataclass(frozen=True)
class Captured:
    """A graph and the part of a plan that it reads."""

    part: CropFlipPlan
    graph: Graph


class Graphs:
    """The maker of a run's steps: it replays captured graphs."""

    def __init__(
        self,
        stepper: Stepper,
        data: DeviceData,
        meter: Meter,
        capture: Capture = on_cuda,
        warm_up: Callable[[Callable[[], None]], None] = warmed_up_on_cuda,
    ) -> None:
        self.stepper, self.data, self.meter = stepper, data, meter
        self._capture, self._warm_up = capture, warm_up
        self._captured: dict[int, Captured] = {}
        hold_rates_in_tensors(stepper.parts.optimizer, stepper.device)

    def step(self, part: CropFlipPlan, epochs_done: float, number: int) -> None:
        """Train one step on a batch, given as a part of the epoch's plan on the device.

        `number` counts from the run's start.
        """
        self.stepper.set_moment(epochs_done, self.meter, number)
        if len(part) not in self._captured:
            self._captured[len(part)] = self._made(part)
        captured = self._captured[len(part)]
        for held, given in zip(_tensors(captured.part), _tensors(part), strict=True):
            held.copy_(given)
        captured.graph.replay()

    def _made(self, part: CropFlipPlan) -> Captured:
        held = CropFlipPlan(*(tensor.clone() for tensor in _tensors(part)))

        def work() -> None:
            self.stepper.update(self.data.augmented(held), self.meter)

        with self._undone():
            for _ in range(WARM_UP_STEPS):
                self._warm_up(work)
            graph = self._capture(work, self.stepper.parts.moment.generator)
        return Captured(held, graph)

    @contextlib.contextmanager
    def _undone(self) -> Iterator[None]:
        """Restore in place everything that steps change. Optimiser state that they created is set to zero."""
        parts = self.stepper.parts
        changed = [*parts.distiller.parameters(), *parts.distiller.buffers()]
        kept = [tensor.detach().clone() for tensor in changed]
        states = {key: copy.deepcopy(state) for key, state in parts.optimizer.state.items()}
        meter, drawn = copy.deepcopy(self.meter.state()), parts.moment.generator.get_state()
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, before in zip(changed, kept, strict=True):
                    tensor.copy_(before)
                for key, state in parts.optimizer.state.items():
                    for name, value in state.items():
                        if isinstance(value, Tensor):
                            value.copy_(states[key][name]) if key in states else value.zero_()
            self.meter.load(meter)
            parts.moment.generator.set_state(drawn)


def why_not(stepper: Stepper, data: object) -> str:
    """Return why a run's step cannot be captured, or an empty string if it can."""
    parts = stepper.parts
    if not isinstance(data, DeviceData):
        return "its images come from files"
    if parts.shards.by_host:
        return "the host seeds what its shards or layers draw"
    if parts.average is not None:
        return "the host counts the steps of its moving average"
    method, optimizer = stepper.parts.distiller.method, type(stepper.parts.optimizer)
    if not method.capturable:
        return f"{type(method).__name__} cannot be captured in a CUDA graph"
    if optimizer not in (torch.optim.SGD, torch.optim.AdamW):
        return f"the optimiser {optimizer.__name__} reads its learning rate on the host"
    if stepper.precision == "fp16":
        return "fp16 scales its gradients by what the host reads of them"
    return ""


def _tensors(part: CropFlipPlan) -> tuple[Tensor, Tensor, Tensor]:
    return part.order, part.offsets, part.flips
