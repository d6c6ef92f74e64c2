"""Generated JPEG files in ImageNet's layout, to prove the path where there is no ImageNet.

THESE ARE NOT PHOTOGRAPHS and no figure measured on them says anything about ImageNet. What they share with it is what
costs time: sizes (500 x 375 most often), detail at every scale, JPEG quality, about 110 kB a file. A class has colours,
a wave and shapes of its own, so a network can learn them.

The same call makes the same pixels on one machine; other versions of numpy or Pillow may round or compress otherwise.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmark.data.class_folders import MARKER, TRAIN, VALIDATION
from benchmark.errors import UsageError
from benchmark.machine.files import storage

VERSION = 1  # raised when the images change
WARNING = "generated images, NOT ImageNet: nothing measured on them says anything about ImageNet"

# Width and height of images, in about ImageNet's proportions
_SIZES = ((500, 375), (500, 375), (500, 375), (375, 500), (500, 333), (333, 500), (500, 500), (640, 480), (400, 300))
_QUALITY = (85, 96)
_OCTAVE = 1.2  # contrast of a scale over that of the next coarser one: found by aiming at 110 kB
_COLOUR = 0.4
_CONTRAST, _BRIGHTNESS = 55.0, 120.0


@dataclass(frozen=True)
class Request:
    """The size of a generated set: classes, images and seed. `scale` shrinks every image, for quick tests."""

    classes: int = 10
    train: int = 100  # images over all classes
    test: int = 50
    seed: int = 0
    scale: float = 1.0

    def description(self) -> dict[str, object]:
        """Return the content of the marker file."""
        return {"warning": WARNING, "version": VERSION, **vars(self)}


def generate(root: Path, request: Request, names: Sequence[str] | None = None) -> Path:
    """Write the images to `root`, unless they are there already, and return `root`.

    Args:
        root: becomes the folder with `train/` and `val/`; it must be absent, empty, or made by the same request.
        request: number and size of the images.
        names: folder names of the classes; g0000, g0001, ... if None.
    """
    names = [f"g{label:04d}" for label in range(request.classes)] if names is None else list(names)
    if len(names) != request.classes or min(request.train, request.test) < request.classes:
        asked = f"{request.train} training and {request.test} test images"
        raise UsageError(
            f"{len(names)} names, {asked} for {request.classes} classes",
            "give each class a name and an image in both splits",
        )
    description = json.dumps({**request.description(), "names": names}, indent=1)
    if (root / MARKER).is_file() and (root / MARKER).read_text() == description:
        return root
    if root.exists() and any(root.iterdir()):
        raise UsageError(f"{root} holds something else", "name an empty folder for generated images")
    with storage(root):
        root.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=root.parent, prefix=f".{root.name}-"))
        try:
            for split, (folder, size) in enumerate(((TRAIN, request.train), (VALIDATION, request.test))):
                _split(scratch / folder, split, size, request, names)
            (scratch / MARKER).write_text(description)
            scratch.chmod(0o755)
            scratch.replace(root)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return root


def _split(folder: Path, split: int, size: int, request: Request, names: Sequence[str]) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
    for index in range(size):
        label = index % len(names)
        draws = np.random.default_rng((request.seed, split, index))
        width, height = (max(8, round(side * request.scale)) for side in _SIZES[draws.integers(len(_SIZES))])
        image = picture(label, width, height, draws)
        path = folder / names[label] / f"{names[label]}_{index}.JPEG"
        image.save(path, "JPEG", quality=int(draws.integers(*_QUALITY)), comment=WARNING.encode())


def picture(label: int, width: int, height: int, draws: np.random.Generator) -> Image.Image:
    """Draw one image of a class: its wave and shapes over noise that has as much detail as a photograph."""
    looks = np.random.default_rng((label, VERSION))  # what the class's images share
    angle, waves = looks.uniform(0, np.pi), looks.uniform(4, 16)
    ink, plane = looks.uniform(-60, 60, 3), looks.uniform(-40, 40, 3)
    y, x = np.mgrid[:height, :width].astype(np.float32) / max(width, height)
    phase = 2 * np.pi * (waves * (np.cos(angle) * x + np.sin(angle) * y) + draws.random())
    pixels = _texture(width, height, draws) + plane + np.sin(phase)[:, :, None] * ink
    image = Image.fromarray((pixels + _BRIGHTNESS).clip(0, 255).astype(np.uint8))
    canvas = ImageDraw.Draw(image)
    for _ in range(3):
        _shape(canvas, width, height, looks, draws)
    return image


def _shape(
    canvas: ImageDraw.ImageDraw, width: int, height: int, looks: np.random.Generator, draws: np.random.Generator
) -> None:
    colour = tuple(int(level) for level in looks.integers(0, 256, 3))
    radius = looks.uniform(0.04, 0.15) * max(width, height)
    left, top = draws.uniform(-radius, width), draws.uniform(-radius, height)
    draw = canvas.ellipse if looks.random() < 0.5 else canvas.rectangle
    draw((left, top, left + 2 * radius, top + 2 * radius), fill=colour)


def _texture(width: int, height: int, draws: np.random.Generator) -> NDArray[np.float32]:
    """Return noise H,W,3 around 0 with contrast at every scale, mostly in brightness, as in photographs."""
    total = np.zeros((height, width, 3), np.float32)
    longest, cells, weight = max(width, height), 2, 1.0
    while cells <= longest:
        shape = (max(2, cells * height // longest), max(2, cells * width // longest))
        total += weight * _smooth(draws.integers(0, 256, shape, np.uint8), width, height)[:, :, None]
        total += weight * _COLOUR * _smooth(draws.integers(0, 256, (*shape, 3), np.uint8), width, height)
        cells, weight = 2 * cells, weight * _OCTAVE
    return total * np.float32(_CONTRAST / total.std())


def _smooth(coarse: NDArray[np.uint8], width: int, height: int) -> NDArray[np.float32]:
    resized = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized, np.float32) - np.float32(127.5)
