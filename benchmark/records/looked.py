"""The result of a look into a finished run: images and maps as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Looked:
    """One image with each network's saliency map: maps of any size, 1 on average, that cover the image exactly."""

    image: Path
    maps: Mapping[str, Values]  # by the column's head
