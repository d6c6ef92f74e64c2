"""What the benchmark must know of a data set without opening it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Shape = tuple[int, ...]  # C,H,W
Layout = Literal["memory", "image folder", "coco", "cityscapes"]  # how images lie on the disk, and who loads them


@dataclass(frozen=True)
class StandIn:
    """The generated images that take a data set's place where a smoke run does without it."""

    name: str  # in experiments
    version: str  # in identities and records; raised when its images change


@dataclass(frozen=True)
class DataSet:
    """One data set. Another is one more file in this folder, and a loader for its layout if that is new."""

    name: str  # in suites
    title: str  # as people write it
    task: str  # a name of `paper/tasks.py`
    layout: Layout
    classes: int
    training: int  # images of the training split that runs use
    test: int
    stand_in: StandIn
    trained: Shape = ()  # an image as networks see it in training
    counted: Shape = ()  # an image as costs are counted on; empty: no cost is published for it
    remembered: int = 0  # training images that a method's memory is sized for; 0: `training`
