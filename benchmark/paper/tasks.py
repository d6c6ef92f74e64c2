"""The tasks of the paper, and the metric by which each chooses its best epoch and judges its teachers."""

from __future__ import annotations

from typing import Literal

Task = Literal["classification", "detection", "segmentation"]
DENSE: tuple[Task, ...] = ("detection", "segmentation")  # through OpenMMLab's packages
MAIN_METRIC: dict[str, str] = {"classification": "top1", "detection": "ap", "segmentation": "miou"}
SHOWN = {"top1": "top-1", "ap": "AP", "miou": "mIoU"}  # as people write them
