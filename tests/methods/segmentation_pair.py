"""Tiny segmentation networks: a backbone, a head and an auxiliary head, as a student and a teacher with one batch."""

from __future__ import annotations

import torch
from pairs import CLASSES, DATASET_SIZE, Setup, Stage
from torch import Tensor, nn

from benchmark.models.taps import Adapter, Network, Tap
from methods.base import Batch, Pair

HEIGHT, WIDTH = 16, 24
IGNORED = 255


class TinySegmentor(nn.Module):
    """Two stages at a quarter of the side, a head of a block and a classifier, and an auxiliary classifier."""

    def __init__(self, width: int, stride: int, auxiliary: bool) -> None:
        super().__init__()
        self.stages = nn.Sequential(Stage(3, width, 2), Stage(width, width, stride))
        self.feature = Stage(width, width, 1)
        self.classifier = nn.Conv2d(width, CLASSES, 1)
        self.auxiliary = nn.Conv2d(width, CLASSES, 1) if auxiliary else None

    def forward(self, inputs: Tensor) -> Tensor:
        deep = self.stages(inputs)
        if self.auxiliary is not None:
            self.auxiliary(deep)
        scores: Tensor = self.classifier(self.feature(deep))
        return scores


def tiny_segmentor(width: int, stride: int = 2, auxiliary: bool = True) -> Network:
    taps = {"stage1": Tap("stages.0"), "stage2": Tap("stages.1")}
    taps |= {"aux_logits": Tap("auxiliary")} if auxiliary else {}
    taps |= {"seg_feature": Tap("feature"), "seg_logits": Tap("classifier")}
    return Network(TinySegmentor(width, stride, auxiliary), Adapter(taps, classifier="classifier"), taps)


def segmentation_setup(stride: int = 2, auxiliary: bool = True) -> Setup:
    """A fresh pair, always the same. `stride` 1 makes the student's maps larger than the teacher's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student = tiny_segmentor(8, stride, auxiliary)
        teacher = tiny_segmentor(12).eval().requires_grad_(False)
        inputs = torch.randn(3, 3, HEIGHT, WIDTH)
    targets = torch.arange(CLASSES)[:, None].repeat(1, 2).flatten()[:HEIGHT].view(1, -1, 1).repeat(3, 1, WIDTH).clone()
    targets[0, :, : WIDTH // 2] = IGNORED
    shapes = [network.shapes(inputs[:1]) for network in (student, teacher)]
    pair = Pair(student, teacher, shapes[0], shapes[1], CLASSES, DATASET_SIZE, task="segmentation")
    return Setup(pair, Batch(inputs, targets, torch.arange(3)))
