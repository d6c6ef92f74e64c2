"""The facts on a data set that the benchmark needs without opening it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ImageShape = tuple[int, ...]  # C,H,W
# How images lie on the disk, and who loads them: CIFAR-100's pickles, a folder for each class, COCO's annotation files
# of its 80 classes, Cityscapes' maps of its label numbers.
Layout = Literal["memory", "image folder", "coco", "cityscapes"]


@dataclass(frozen=True)
class StandIn:
    """The generated images that take a data set's place where a smoke run does without it."""

    name: str  # in experiments
    version: str  # in identities and records; raised when its images change


@dataclass(frozen=True)
class SplitFiles:
    """The files of one split."""

    holds: tuple[str, ...]  # what must be there; the names of folders end in a slash
    images: int = 0  # as published; 0: another number is no error
    used: bool = True  # False: it is only looked for where it is named


@dataclass(frozen=True)
class OnDisk:
    """The folder of a data set: where `data/finder.py` looks for it, and what to do where it is not."""

    folders: tuple[str, ...]  # names tried below each place that is searched; the last is the one to create
    splits: Mapping[str, SplitFiles]
    fix: str  # what the user can do; `{}` stands for the folder
    in_part: bool = False  # a folder with any of the splits is taken, and its loader says what is missing there


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
    on_disk: OnDisk | None = None  # None for CIFAR-100, which is downloaded and verified (data/locate.py)
    trained: ImageShape = ()  # an image as networks see it in training
    counted: ImageShape = ()  # an image as costs are counted on; empty: no cost is published for it
    remembered: int = 0  # training images that a method's memory is sized for; 0: `training`

    @property
    def stand_in_note(self) -> str:
        """Return the line that every output on its stand-in must carry."""
        return f"generated images, NOT {self.title}: figures show that the path works, no more"
