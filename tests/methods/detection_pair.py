"""Tiny dense detectors: a backbone, a pyramid and a head, as a student and a teacher with one batch and boxes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pairs import CLASSES, DATASET_SIZE, Setup, Stage
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.models.taps import Adapter, Network, Tap
from methods.base import Annotation, Batch, ImageSize, Pair

LEVELS, ANCHORS = 2, 2
HEIGHT, WIDTH = 32, 48  # of the padded images
REAL = ((30, 44), (32, 40))


class TinyDetector(nn.Module):
    """Two backbone stages, a pyramid of two levels with one width, a head that all levels share, and an RoI head."""

    def __init__(self, width: int, pyramid: int, boxes: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList((Stage(3, width, 2), Stage(width, 2 * width, 2)))
        self.neck = nn.ModuleList((nn.Conv2d(width, pyramid, 1), nn.Conv2d(2 * width, pyramid, 1)))
        self.scores = nn.Conv2d(pyramid, ANCHORS * CLASSES, 3, padding=1)
        # As in a trained detector, most positions are sure to hold nothing.
        nn.init.normal_(self.scores.weight, std=0.5)
        nn.init.constant_(self.scores.bias, -3)
        self.boxes = nn.Conv2d(pyramid, ANCHORS * 4, 3, padding=1)
        self.roi_boxes = nn.Linear(pyramid, boxes)

    def outputs(self, inputs: Tensor) -> Mapping[str, Tensor]:
        found: dict[str, Tensor] = {}
        levels: list[Tensor] = []
        for i, (stage, lateral) in enumerate(zip(self.stages, self.neck, strict=True)):
            found[f"stage{i + 1}.preact"] = stage.norm(stage.conv(inputs))
            inputs = F.relu(found[f"stage{i + 1}.preact"])
            levels.append(lateral(inputs))
        found |= {f"{role}.{i}": level for i, level in enumerate(levels) for role in ("fpn", "fpn_conv")}
        found |= {f"cls_scores.{i}": self.scores(level) for i, level in enumerate(levels)}
        found |= {f"bbox_preds.{i}": self.boxes(level) for i, level in enumerate(levels)}
        # Every fourth position is a proposal, the same in both networks.
        proposals = levels[1][:, :, ::2, ::2].movedim(1, -1).flatten(0, -2)
        return found | {"roi.bbox_preds": self.roi_boxes(proposals)}


def tiny_detector(width: int, pyramid: int, boxes: int) -> Network:
    levels = [f"{role}.{i}" for role in ("fpn", "fpn_conv", "cls_scores", "bbox_preds") for i in range(LEVELS)]
    taps = {f"stage{i + 1}.preact": Tap(f"stages.{i}.norm", norm=f"stages.{i}.norm") for i in range(LEVELS)}
    taps |= {role: Tap("neck") for role in (*levels, "roi.bbox_preds")}
    return Network(TinyDetector(width, pyramid, boxes), Adapter(taps, forward=_outputs), taps)


def _outputs(network: nn.Module, inputs: Tensor) -> Mapping[str, Tensor]:
    assert isinstance(network, TinyDetector)
    return network.outputs(inputs)


def detection_batch() -> Batch:
    """Two images; the second has no object."""
    boxes = torch.tensor([[2.0, 3.0, 20.0, 25.0], [10.0, 8.0, 43.0, 29.0], [30.0, 2.0, 36.0, 9.0]])
    annotations = (
        Annotation(boxes, torch.tensor([1, 0, 4])),
        Annotation(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)),
    )
    zeros = torch.zeros(2, dtype=torch.int64)
    sizes = tuple(ImageSize(real, (HEIGHT, WIDTH)) for real in REAL)
    return Batch(torch.randn(2, 3, HEIGHT, WIDTH), zeros, zeros, annotations, sizes)


def detection_setup(pyramid: int = 12, roi_boxes: tuple[int, int] = (4 * CLASSES, 4 * CLASSES)) -> Setup:
    """A fresh pair, always the same. `pyramid` is the student's width, 12 the teacher's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student = tiny_detector(8, pyramid, roi_boxes[0])
        teacher = tiny_detector(16, 12, roi_boxes[1]).eval().requires_grad_(False)
        batch = detection_batch()
    shapes = [network.shapes(batch.inputs) for network in (student, teacher)]
    return Setup(Pair(student, teacher, shapes[0], shapes[1], CLASSES, DATASET_SIZE, task="detection"), batch)
