"""RandAugment on Pillow images: timm's fifteen operations, or these and four of image_classification_sota."""

from __future__ import annotations

import contextlib
import copy
import math
import random
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

from benchmark.errors import UsageError

Operations = Literal["timm", "sota"]
Interpolation = Literal["bilinear", "bicubic"]
Transform = Callable[[Image.Image], Image.Image]

FILL = (124, 116, 104)  # of pixels that come from outside the image: ImageNet's mean, as in timm
RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
HIGHEST = 10.0  # level


@cache
def randaugment(config: str, size: int, interpolation: Interpolation, operations: Operations) -> Transform:
    """Return the transform that a configuration string of timm describes, for square images of a size.

    Raises:
        UsageError: timm cannot read the string.
    """
    from timm.data.auto_augment import rand_augment_transform  # slow to import, and most recipes do without

    # as timm's transforms_imagenet_train sets them
    settings = {
        "translate_const": int(size * 0.45),
        "img_mean": FILL,
        "interpolation": RESAMPLING[interpolation],
    }
    try:
        made = rand_augment_transform(config, settings)
    except (AssertionError, ValueError, KeyError) as error:
        raise UsageError(
            f"randaugment {config!r} is no configuration of timm", "write it like rand-m9-mstd0.5"
        ) from error
    if operations == "sota":
        # An operation has a probability of its own, and draws its magnitude: timm's part, which a copy keeps.
        added = [copy.copy(made.ops[0]) for _ in ADDED]
        for operation, (name, change) in zip(added, ADDED.items(), strict=True):
            operation.name, operation.level_fn, operation.aug_fn = name, _level, change
        made.ops = [*added, *made.ops]
    transform: Transform = made
    return transform


@contextlib.contextmanager
def lent_generators(seed: int) -> Iterator[None]:
    """Seed the global generators of Python and numpy, which timm's RandAugment uses, and restore them afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _level(level: float, settings: Mapping[str, object]) -> tuple[float]:
    return (level / HIGHEST,)


# What image_classification_sota's lib/dataset/augment_ops.py adds to timm's list. `share` is the level's, from 0 to 1.


def distorted(image: Image.Image, share: float, **unused: object) -> Image.Image:
    """Move the corner where four quarters of the image meet by 20 pixels to the right and down.

    The source cuts the image into as many tiles a side as the level's tens: one tile, which changes nothing, at any
    level below the highest.
    """
    if int(share * 10 + 10) < 20:
        return image
    width, height = image.size
    x, y = math.floor(width / 2), math.floor(height / 2)
    shift = 20
    mesh = []
    for left, right in ((0, x), (x, width)):
        for top, bottom in ((0, y), (y, height)):
            corners = ((left, top), (left, bottom), (right, bottom), (right, top))
            moved = [(a + shift, b + shift) if (a, b) == (x, y) else (a, b) for a, b in corners]
            mesh.append(((left, top, right, bottom), tuple(value for corner in moved for value in corner)))
    return image.transform(image.size, Image.Transform.MESH, mesh, resample=Image.Resampling.BICUBIC)


def zoomed(image: Image.Image, share: float, **unused: object) -> Image.Image:
    """Shrink the image to at most 0.4 of its sides, in the middle of a black one of the same size."""
    width, height = image.size
    small = image.resize(
        (max(1, round(width * share * 0.4)), max(1, round(height * share * 0.4))), Image.Resampling.BICUBIC
    )
    left, top = math.floor(small.width / 2 - width / 2), math.floor(small.height / 2 - height / 2)
    return small.crop((left, top, left + width, top + height))


def blurred(image: Image.Image, share: float, **unused: object) -> Image.Image:
    """Blur with a Gaussian of a radius of at most half a pixel. The source draws a sign, which has no effect."""
    return image.filter(ImageFilter.GaussianBlur(share * 0.5))


def skewed(image: Image.Image, share: float, **unused: object) -> Image.Image:
    """Turn the four corners of the image inwards or outwards, by at most 0.3 of its side, as seen in perspective."""
    share = -share if random.random() > 0.5 else share
    width, height = image.size
    amount = math.ceil(max(width, height) * share * 0.3)
    corners = ((0, 0), (width, 0), (width, height), (0, height))
    targets = ((-amount, 0), (width, -amount), (width + amount, height), (0, height + amount))
    rows: list[list[float]] = []
    for (x, y), (u, v) in zip(targets, corners, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    solved = np.linalg.lstsq(np.array(rows, dtype=float), np.array(corners, dtype=float).ravel(), rcond=None)[0]
    return image.transform(
        image.size, Image.Transform.PERSPECTIVE, tuple(map(float, solved)), resample=Image.Resampling.BICUBIC
    )


ADDED: Mapping[str, Callable[..., Image.Image]] = {
    "Distort": distorted,
    "Zoom": zoomed,
    "Blur": blurred,
    "Skew": skewed,
}
