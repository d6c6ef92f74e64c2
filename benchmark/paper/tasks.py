"""The tasks of the paper, one line each: all that the program must know of a task without opening its trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmark.paper.honoured import CLASSIFICATION, DETECTION, SEGMENTATION, Honoured


@dataclass(frozen=True)
class Task:
    """One task. Another is one more line in `TASKS`, and a folder of `benchmark/train/` with a trainer."""

    name: str  # in suites
    metric: str  # decides which epoch is the best, and judges teachers
    metric_title: str  # as people write it
    folder: str  # of `benchmark/train/`: its module `trainer` trains and evaluates runs
    image_size: str  # the setting of a profile that shrinks the images
    honours: Mapping[str, Honoured]  # settings of recipes, by the layout of the data set; the first is the usual one
    openmmlab: str = ""  # the package of OpenMMLab's that it needs and whose configurations it is written in
    one_process: bool = False  # its trainer knows no ranks: each of several processes would train all of a run
    exports_student: bool = True  # as a program that maps a batch of images to one tensor
    macs: float = 0  # roughly, of any of its networks on one crop; 0: counted on the network itself
    test_crops: int = 1  # of a test image


_BY_MMENGINE = {"one_process": True, "exports_student": False}
_ALL = (
    Task("classification", "top1", "top-1", "classification", "image_size", CLASSIFICATION),
    Task("detection", "ap", "AP", "dense", "short_side", DETECTION, "mmdet", macs=240e9, **_BY_MMENGINE),
    Task(
        "segmentation", "miou", "mIoU", "dense", "crop", SEGMENTATION, "mmseg", macs=140e9, test_crops=4, **_BY_MMENGINE
    ),
)
TASKS: Mapping[str, Task] = {task.name: task for task in _ALL}
DEFAULT_TASK = "classification"  # where a suite names none
