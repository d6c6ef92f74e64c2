"""The cost of COCO's detectors, compared with an earlier count of mmdet's configurations. Needs the dense packages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmark.machine.saying import Say
from benchmark.models import openmmlab
from benchmark.models.counting import parameters
from benchmark.models.registry import models
from benchmark.paper.suite import Suite
from benchmark.verify.cost_check import names_of
from benchmark.verify.findings import DetectorCost, Findings

DATA, CLASSES = "coco2017", 80
SIDES = (800, 1280)  # height and width that mmdet counts at
TESTED_PROPOSALS = 1000  # proposals of an image that a two-stage detector classifies in testing

# Millions of parameters and 10^9 multiply-adds of mmdet 3.3's configurations at SIDES, by fvcore: an independent count.
# It includes norms (a third of a per cent), which the count in this module leaves out.
BY_MMDET = {
    "faster_rcnn_r50_fpn": (41.75, 206.8),
    "faster_rcnn_r101_fpn": (60.75, 282.8),
    "retinanet_r50_fpn": (37.97, 239.0),
    "retinanet_r101_fpn": (56.96, 315.0),
    "fcos_r50": (32.30, 200.4),
    "fcos_r101": (51.29, 276.4),
    "reppoints_r50": (36.85, 190.1),
}
NORMS = 0.005  # the largest share of multiply-adds in BY_MMDET that norms can explain


def add_detectors(findings: Findings, suites: Iterable[Suite], say: Say) -> None:
    """Add the cost of every detector that a suite names. A count that differs from BY_MMDET becomes a problem."""
    named = {name for suite in suites for cell in suite.cells if cell.setting.data == DATA for name in names_of(cell)}
    wanted = sorted(name for name in named if name in models())
    if not wanted:
        return
    if openmmlab.missing():
        findings.skip(f"networks of {DATA}", f"not checked: {openmmlab.FIX}")
        return
    for name in wanted:
        say(f"counting {name}")
        cost = detector_cost(name)
        findings.detectors.append(cost)
        if problem := _departure(cost):
            findings.problems.append(problem)


def detector_cost(name: str) -> DetectorCost:
    """Count the parameters and multiply-adds of one of mmdet's detectors, by shapes alone."""
    from benchmark.models.mmdet import uninitialised

    with torch.device("meta"):
        network = uninitialised(name, CLASSES)
    return DetectorCost(name, "x".join(map(str, (1, 3, *SIDES))), parameters(network), *stage_macs(network))


def stage_macs(network: Any) -> tuple[int, int]:
    """Count a detector's multiply-adds on the meta device: those of an image of SIDES, and those of the second stage.

    The second number is 0 for a one-stage detector.
    """
    network.eval()
    with torch.device("meta"), torch.no_grad():
        dense = _macs(lambda: _first_stage(network))
        second = _macs(lambda: _second_stage(network)) if hasattr(network, "roi_head") else 0
    return dense, second


def _first_stage(network: Any) -> None:
    features = network.extract_feat(torch.empty(1, 3, *SIDES))
    (network.rpn_head if hasattr(network, "roi_head") else network.bbox_head)(features)


def _second_stage(network: Any) -> None:
    extractor = network.roi_head.bbox_roi_extractor
    stages = network.roi_head.bbox_head
    extractors, heads = (x if isinstance(x, nn.ModuleList) else [x] for x in (extractor, stages))
    for pooled, head in zip(extractors, heads, strict=True):
        side = pooled.roi_layers[0].output_size
        head(torch.empty(TESTED_PROPOSALS, pooled.out_channels, *side))


def _macs(run: Callable[[], None]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops()) // 2


def _departure(cost: DetectorCost) -> str:
    """Return a sentence about the difference between a count and BY_MMDET, or an empty string if they agree."""
    if cost.model not in BY_MMDET:
        return ""
    params, macs = BY_MMDET[cost.model]
    ours = cost.params / 1e6, (cost.macs + cost.second_stage) / 1e9
    if round(ours[0], 2) == params and macs * (1 - NORMS) <= ours[1] <= macs:
        return ""
    return f"{cost.model}: {ours[0]:.2f} M and {ours[1]:.1f} G are not the known {params} M and {macs} G"
