"""The interface of every distillation method, and the types that pass through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NoReturn

import torch
from torch import Tensor, nn

from benchmark.errors import CannotServe
from benchmark.models.taps import Network, Tap, resolve_roles
from methods.options import MethodOptions

# Taps are roles, the same words for every network family.
STEM = "stem"
STAGES = "stage[0-9]"  # every stage a family has; `*` and `[...]` match like file names
PREACTS = "stage[0-9].preact"
PRE_POOL = "pre_pool"
EMBEDDING = "embedding"
LOGITS = "logits"
# Dense networks. Levels count from the finest; a second head has roles of its own.
FPN = "fpn.[0-9]"  # what the neck gives to the heads, B,C,H,W
CLS_SCORES = "cls_scores.[0-9]"  # class logits of a dense head (a two-stage detector's RPN), B,anchors*classes,H,W
BBOX_PREDS = "bbox_preds.[0-9]"  # its box regressions, B,anchors*4,H,W; RepPoints: the refined points
ROI_CLS_SCORES = "roi.cls_scores"  # class logits of the (first) RoI head, R,classes+1, on the same proposals in both
ROI_BBOX_PREDS = "roi.bbox_preds"  # its box regressions, R,4*classes, or R,4 where all classes share one box
SEG_FEATURE = "seg_feature"  # what a segmentation head's classifier reads, B,C,H,W
SEG_LOGITS = "seg_logits"  # its class scores before they are brought to the image's size, B,classes,H,W
AUX_LOGITS = "aux_logits"  # those of the auxiliary head, which not every network has

Shapes = Mapping[str, tuple[int, ...]]  # role -> shape without the batch: C,H,W or C
Outputs = Mapping[str, Tensor]  # role -> tensor: maps B,C,H,W, vectors B,C


@dataclass(frozen=True)
class Pair:
    """A student and a teacher before any folding, and the facts from which a method sizes its side networks.

    Shapes are by role and without the batch dimension: `(C, H, W)` or `(C,)`.
    """

    student: Network
    teacher: Network
    student_shapes: Shapes
    teacher_shapes: Shapes
    classes: int
    dataset_size: int
    task: str = "classification"
    labels: Tensor | None = None  # class of every training sample, by the positions that `Batch.indices` counts (CRD)


@dataclass(frozen=True)
class Annotation:
    """The ground truth of one image, in pixels of the network's input: as resized and augmented, not as stored."""

    boxes: Tensor  # N,4: x1, y1, x2, y2; N may be 0
    labels: Tensor  # N: classes as integers


@dataclass(frozen=True)
class ImageSize:
    """The height and width of one image of a batch, in pixels of the network's input."""

    real: tuple[int, int]  # without padding: `img_shape` in mmdet
    padded: tuple[int, int]  # of the batch's tensor, the same for all its images: `batch_input_shape` in mmdet


@dataclass(frozen=True)
class Batch:
    """One mini-batch.

    `indices` are positions in the training set; annotations and sizes have one entry for each image.
    """

    inputs: Tensor
    targets: Tensor
    indices: Tensor
    annotations: tuple[Annotation, ...] | None = None
    sizes: tuple[ImageSize, ...] | None = None

    def boxes(self) -> tuple[tuple[Tensor, ImageSize], ...]:
        """Return each image's ground-truth boxes N,4 and its size. Raise `CannotServe` if this batch has none."""
        if self.annotations is None or self.sizes is None:
            raise CannotServe("the batch has no ground-truth boxes", "detection data sets have them")
        return tuple((a.boxes, size) for a, size in zip(self.annotations, self.sizes, strict=True))


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return the tensor in float32, or in its own type if that is wider.

    Under autocast, outputs of networks and side networks come in half precision. float16 has no room for squares and
    for sums over positions, and bfloat16 loses small differences. A method calls this where its loss needs that room,
    not on all outputs: elsewhere half precision is what autocast means, and its speed.
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _alone(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Moment:
    """The progress of training at a step, and the randomness and the other ranks that a method may use.

    `epoch` counts completed epochs, `step` completed optimiser steps, and `progress` is the completed fraction of the
    whole training. All are scalar tensors on the device, so that a captured step reads fresh values without touching
    the host. If several ranks share a batch, `part` is this rank's number and the number of ranks: all draw the whole
    batch's noise and keep their own part.
    """

    epoch: Tensor
    progress: Tensor
    generator: torch.Generator
    gather: Callable[[Tensor], Tensor] = _alone
    part: tuple[int, int] = (0, 1)
    step: Tensor | None = None  # none where a loop does not count: what needs it then fails, by `ramp`

    def ramp(self, steps: int) -> Tensor:
        """Return the factor of a linear warm-up: the completed share of `steps`, at most 1."""
        if steps == 0:
            return torch.ones_like(self.progress)
        if self.step is None:
            raise CannotServe("a warm-up counts steps, and this training loop does not", "set the warm-up to 0")
        return (self.step / steps).clamp(max=1.0)

    def normal_like(self, tensor: Tensor) -> Tensor:
        """Draw standard normal noise of a tensor's shape B,..., type and device, from this run's own stream."""
        shape = self._whole(tuple(tensor.shape))
        return self._own(torch.randn(shape, generator=self.generator, device=tensor.device, dtype=tensor.dtype))

    def integers(self, high: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Draw uniform integers in [0, high) of a shape B,..., from this run's own stream."""
        return self._own(torch.randint(high, self._whole(shape), generator=self.generator, device=device))

    def _whole(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0] * self.part[1], *shape[1:])

    def _own(self, drawn: Tensor) -> Tensor:
        place, parts = self.part
        return drawn if parts == 1 else drawn.chunk(parts)[place]


@dataclass(frozen=True)
class Losses:
    """The loss terms that a method adds to training: named, already weighted, each a scalar.

    The total is `task_weight * task loss + sum(terms)`. `tracked` holds detached tensors for curves: a scalar is
    averaged over an epoch, a vector becomes its mean and a histogram.
    """

    terms: Mapping[str, Tensor]
    tracked: Mapping[str, Tensor] = field(default_factory=dict)
    task_weight: float = 1.0


@dataclass(frozen=True)
class AddedRole:
    """A role that only the student of `wrap_student` has: its tap, and its shape without the batch."""

    tap: Tap
    shape: tuple[int, ...]


class Method(nn.Module):
    """A distillation method: the roles that it reads, the side networks that it trains, and its loss.

    Side networks are submodules; banks, queues and pointers are buffers, so a checkpoint carries all of them and an
    exported student none. Nothing here draws from torch's global generator after `build`.
    """

    taps: tuple[str, ...] = ()  # a class attribute; an instance may narrow it when its options say so
    revision: ClassVar[int] = 1  # raised when a change alters results
    capturable: bool = True  # False: cannot live in a CUDA graph
    teacher_in_train_mode: bool = False  # True: the teacher's norms take the statistics of each batch

    class Options(MethodOptions):
        """The options of a method without any."""

    options: MethodOptions  # a subclass with options writes `options: Options`
    files: Mapping[str, Mapping[str, str]] = {}  # of weights that `build` read: what they hold -> name and sha256

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__()
        self.options = self.Options() if options is None else options

    def build(self, pair: Pair) -> None:
        """Make the side networks for one pair, or `skip` the pair."""

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return the method's loss terms for one batch. Teacher outputs carry no gradient."""
        raise NotImplementedError

    def distance(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """Return the unweighted distance of two tensors of one shape, for methods built on another method."""
        raise CannotServe(
            f"{type(self).__name__} is no distance between two tensors",
            "name one that is: python -m benchmark list methods",
        )

    def trainable_modules(self) -> Iterable[nn.Module]:
        """Return the modules that the student's optimiser trains besides the student."""
        return (self,)

    def wrap_student(self, student: nn.Module) -> nn.Module:
        """Return the student to train: a method may add branches inside it."""
        return student

    def added_roles(self) -> Mapping[str, AddedRole]:
        """Return the roles that `losses` reads besides `taps`, added by `wrap_student`. They are known once built."""
        return {}

    def merge(self, student: nn.Module) -> nn.Module:
        """Undo `wrap_student` at export: return the plain network, which gives equal outputs."""
        return student

    def shared_roles(self, pair: Pair, *patterns: str) -> tuple[str, ...]:
        """Return the roles that names or patterns match, in the student's order. Skip a pair that differs in them."""
        roles = resolve_roles(patterns, pair.student_shapes)
        if set(roles) != set(resolve_roles(patterns, pair.teacher_shapes)):
            self.skip(f"student and teacher have different taps {', '.join(map(repr, patterns))}")
        return roles

    def pyramid_roles(self, pair: Pair, pattern: str) -> tuple[str, ...]:
        """Return a pyramid's shared roles, maps of one H x W in both networks. Skip a pair that differs in them."""
        roles = self.shared_roles(pair, pattern)
        for role in roles:
            student, teacher = pair.student_shapes[role], pair.teacher_shapes[role]
            if len(student) != 3 or student[1:] != teacher[1:]:
                self.skip(f"{role} is {student} in the student and {teacher} in the teacher, not two maps of one size")
        return roles

    def skip(self, reason: str) -> NoReturn:
        """Raise `CannotServe`, which says that this pair cannot be served, and why."""
        raise CannotServe(f"{type(self).__name__} cannot serve this pair: {reason}")
