"""The results of a look into a finished run: images and maps as plain arrays, class scores as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
STUDENT, DENOISED, TEACHER = "student", "denoised student", "teacher"


@dataclass(frozen=True)
class Looked:
    """One image with each network's saliency map: maps of any size, 1 on average, that cover the image exactly."""

    image: Path
    maps: Mapping[str, Values]  # by the column's head


@dataclass(frozen=True)
class Scored:
    """One test image with each network's scores, between 0 and 1, of the same few classes."""

    position: int  # among the run's test images, from 0
    target: str  # name of its class
    classes: tuple[str, ...]
    scores: Mapping[str, tuple[float, ...]]  # by network, in the order of `classes`
