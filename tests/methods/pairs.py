"""Tiny networks with every tap role, as a student and a frozen teacher with one batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from benchmark.models.taps import Adapter, Network, Tap
from benchmark.train.engine.distiller import trained_student
from methods.base import Batch, Method, Outputs, Pair

CLASSES, DATASET_SIZE, BATCH_SIZE, SIDE = 10, 50, 8, 16
STUDENT_WIDTHS = (8, 8, 12, 16)

Sizes = Literal["equal", "unequal"]


class Stage(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out)
        self.relu = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.relu(self.norm(self.conv(inputs)))
        return out


class TinyNetwork(nn.Module):
    """A stem, three stages, pooling and a classifier, for images of 3 x 16 x 16."""

    def __init__(self, widths: tuple[int, int, int, int], stem_stride: int) -> None:
        super().__init__()
        self.stem = Stage(3, widths[0], stem_stride)
        self.stages = nn.Sequential(*(Stage(widths[i], widths[i + 1], 1 if i == 0 else 2) for i in range(3)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(widths[3], CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.pool(self.stages(self.stem(inputs))).flatten(1))
        return out


def tiny_network(widths: tuple[int, int, int, int], stem_stride: int) -> Network:
    """A tiny network that exposes all of its roles."""
    taps = {"stem": Tap("stem")}
    for i in range(3):
        taps[f"stage{i + 1}.preact"] = Tap(f"stages.{i}.norm", norm=f"stages.{i}.norm")
        taps[f"stage{i + 1}"] = Tap(f"stages.{i}")
    taps["pre_pool"] = Tap("pool", at="input")
    taps["embedding"] = Tap("classifier", at="input")
    taps["logits"] = Tap("classifier")
    return Network(TinyNetwork(widths, stem_stride), Adapter(taps, classifier="classifier"), taps)


@dataclass
class Setup:
    """A student, a frozen teacher and one batch."""

    pair: Pair
    batch: Batch
    student: Network = field(init=False)  # what is trained: the pair's, or what the method makes of it

    def __post_init__(self) -> None:
        self.student = self.pair.student

    def wrap(self, method: Method) -> None:
        """Trains what a built method makes of the student, if it makes anything of it."""
        plain = self.pair.student
        if type(method).wrap_student is not Method.wrap_student:
            self.student = trained_student(method.wrap_student(plain.network), plain.adapter, method)
            self.student.bind((*self.pair.student_shapes, *method.added_roles()))

    def build(self, method: Method, seed: int = 0) -> Method:
        """Builds the method as a run does: its initial values come from a seed, the global stream stays."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            method.build(self.pair)
        return method

    def outputs(self) -> tuple[Outputs, Outputs]:
        """One forward pass of each network."""
        student = self.student(self.batch.inputs)
        with torch.no_grad():
            return student, self.pair.teacher(self.batch.inputs)


def setup(sizes: Sizes) -> Setup:
    """A fresh pair, always the same.

    Maps are 16, 16, 8 and 4 wide. In the unequal pair the student's are half as wide, as in three pairs of Table 9.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student = tiny_network(STUDENT_WIDTHS, stem_stride=1 if sizes == "equal" else 2)
        teacher = tiny_network((8, 16, 24, 32), stem_stride=1).eval().requires_grad_(False)
        inputs = torch.randn(BATCH_SIZE, 3, SIDE, SIDE)
    shapes = [network.shapes(inputs[:1]) for network in (student, teacher)]
    labels = torch.arange(DATASET_SIZE) % 5  # a batch holds several classes, and several samples of one
    indices = torch.arange(0, 6 * BATCH_SIZE, 6)
    pair = Pair(student, teacher, shapes[0], shapes[1], CLASSES, DATASET_SIZE, labels=labels)
    return Setup(pair, Batch(inputs, labels[indices], indices))
