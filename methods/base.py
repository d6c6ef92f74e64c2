"""The interface every distillation method implements, and the five things that pass through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor, nn

from benchmark.errors import CannotServe
from benchmark.models.taps import Network, Tap
from methods.options import MethodOptions

# Taps are roles, the same words for every network family.
STEM = "stem"
STAGES = "stage[0-9]"  # every stage a family has; `*` and `[...]` match like file names
PREACTS = "stage[0-9].preact"
PRE_POOL = "pre_pool"
EMBEDDING = "embedding"
LOGITS = "logits"

Outputs = Mapping[str, Tensor]  # role -> tensor: maps B,C,H,W, vectors B,C


@dataclass(frozen=True)
class Pair:
    """Both networks before any folding, and what a method may need to size its side networks.

    Shapes are by role and without the batch dimension: `(C, H, W)` or `(C,)`.
    """

    student: Network
    teacher: Network
    student_shapes: Mapping[str, tuple[int, ...]]
    teacher_shapes: Mapping[str, tuple[int, ...]]
    classes: int
    dataset_size: int
    task: str = "classification"
    labels: Tensor | None = None  # class of every training sample, by the positions that `Batch.indices` counts (CRD)


@dataclass(frozen=True)
class Batch:
    """One mini-batch. `indices` are positions in the training set; annotations and sizes serve detection."""

    inputs: Tensor
    targets: Tensor
    indices: Tensor
    annotations: Any = None
    sizes: Any = None


def _alone(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Moment:
    """When a step happens, and the randomness and the other ranks it may use.

    `epoch` counts completed epochs and `progress` the completed fraction of the whole training; both are scalar
    tensors on the device, so that a captured step reads fresh values without touching the host.
    """

    epoch: Tensor
    progress: Tensor
    generator: torch.Generator
    gather: Callable[[Tensor], Tensor] = _alone

    def normal_like(self, tensor: Tensor) -> Tensor:
        """Standard normal noise of a tensor's shape, type and device, from this run's own stream."""
        return torch.randn(tensor.shape, generator=self.generator, device=tensor.device, dtype=tensor.dtype)

    def integers(self, high: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Uniform integers in [0, high), from this run's own stream."""
        return torch.randint(high, shape, generator=self.generator, device=device)


@dataclass(frozen=True)
class Losses:
    """What a method adds to training: named terms, already weighted, each a scalar.

    The total is `task_weight * task loss + sum(terms)`. `tracked` holds detached tensors worth a curve: a scalar is
    averaged over an epoch, a vector becomes its mean and a histogram.
    """

    terms: Mapping[str, Tensor]
    tracked: Mapping[str, Tensor] = field(default_factory=dict)
    task_weight: float = 1.0


@dataclass(frozen=True)
class AddedRole:
    """A role that only the student of `wrap_student` has: where its tensor appears, and its shape without the batch."""

    tap: Tap
    shape: tuple[int, ...]


class Method(nn.Module):
    """A distillation method: what it must see, the side networks it trains, and its loss.

    Side networks are submodules; banks, queues and pointers are buffers, so a checkpoint carries all of them and an
    exported student none. Nothing here draws from torch's global generator after `build`.
    """

    taps: tuple[str, ...] = ()  # a class attribute; an instance may narrow it when its options say so
    revision: ClassVar[int] = 1  # raised when a change alters results
    capturable: bool = True  # False: cannot live in a CUDA graph

    class Options(MethodOptions):
        """No options."""

    options: MethodOptions  # a subclass with options writes `options: Options`

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__()
        self.options = self.Options() if options is None else options

    def build(self, pair: Pair) -> None:
        """Make the side networks for one pair, or `skip` it."""

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """The method's terms for one batch. Teacher outputs carry no gradient."""
        raise NotImplementedError

    def distance(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """The bare, unweighted distance of two tensors of one shape, for methods that are built on another's."""
        raise CannotServe(
            f"{type(self).__name__} is no distance between two tensors",
            "name one that is: python -m benchmark list methods",
        )

    def trainable_modules(self) -> Iterable[nn.Module]:
        """What the student's optimiser trains besides the student."""
        return (self,)

    def wrap_student(self, student: nn.Module) -> nn.Module:
        """The student to train, where a method adds branches inside it."""
        return student

    def added_roles(self) -> Mapping[str, AddedRole]:
        """What `losses` sees of the student beyond `taps`, where `wrap_student` added it. Known once built."""
        return {}

    def merge(self, student: nn.Module) -> nn.Module:
        """Undo `wrap_student` at export: the plain network, equal in outputs."""
        return student

    def skip(self, reason: str) -> NoReturn:
        """Say that this pair cannot be served, and why."""
        raise CannotServe(f"{type(self).__name__} cannot serve this pair: {reason}")
