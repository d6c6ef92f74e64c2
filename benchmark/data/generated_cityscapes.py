"""Generated street scenes in Cityscapes' layout, to prove the path of segmentation where there is no Cityscapes.

THESE ARE NOT PHOTOGRAPHS and no figure measured on them says anything about Cityscapes. An image has a sky, a building,
a tree, a road with its pavement, and cars and persons on it, each in a colour of its own over noise; below lies a strip
that is labelled as the car that carries the camera, which is ignored. Labels have the archives' own numbers.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.data.cityscapes import IMAGE, LABELS
from benchmark.machine.files import storage

# A change of the images changes the set's name: its file in `paper/datasets`.
HEIGHT, WIDTH = 128, 256
COUNTS = {"train": 16, "val": 4, "test": 2}
CITIES = {"train": ("aville", "betown"), "val": ("cestadt",), "test": ("demburg",)}

EGO, ROAD, PAVEMENT, BUILDING, TREE, SKY, PERSON, CAR = (
    1,
    7,
    8,
    11,
    21,
    23,
    24,
    26,
)  # labels as the archives number them
_COLOURS = {
    EGO: (20, 20, 25),
    ROAD: (110, 100, 115),
    PAVEMENT: (190, 150, 170),
    BUILDING: (130, 90, 70),
    TREE: (60, 120, 50),
    SKY: (140, 180, 225),
    PERSON: (220, 60, 70),
    CAR: (40, 50, 150),
}

Pixels = NDArray[np.uint8]


def generate(root: Path, height: int = HEIGHT, width: int = WIDTH) -> Path:
    """Write the set to `root`, unless it is there already, and return `root`. The test split has no labels."""
    if (root / "leftImg8bit").is_dir():
        return root
    with storage(root):
        root.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=root.parent, prefix=f".{root.name}-"))
        try:
            for seed, (split, count) in enumerate(COUNTS.items()):
                for number in range(count):
                    draw = np.random.default_rng((seed, number))
                    _save(scratch, split, number, *scene(draw, height, width))
            scratch.chmod(0o755)
            scratch.rename(root)
        except OSError:
            if not root.is_dir():  # where it is, another process was faster
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return root


def scene(draw: np.random.Generator, height: int, width: int) -> tuple[Pixels, Pixels]:
    """Draw a scene: an image H,W,3 and its labels H,W."""
    labels = np.full((height, width), SKY, np.uint8)
    horizon = int(height * draw.uniform(0.4, 0.55))
    for kind in (BUILDING, TREE, BUILDING):
        left = int(draw.integers(width))
        labels[int(horizon * draw.uniform(0.1, 0.7)) : horizon, left : left + width // 3] = kind
    labels[horizon:] = PAVEMENT
    labels[horizon + height // 12 :] = ROAD
    for kind, tall, wide in ((CAR, 0.16, 0.16), (CAR, 0.16, 0.16), (PERSON, 0.28, 0.05)):
        top = int(horizon + draw.uniform(-0.05, 0.2) * height)
        left = int(draw.integers(width))
        labels[top : top + int(tall * height), left : left + int(wide * width)] = kind
    labels[height - height // 12 :] = EGO
    colours = np.zeros((256, 3), np.float32)
    for kind, colour in _COLOURS.items():
        colours[kind] = colour
    noise = draw.normal(0, 14, (height, width, 3)) + draw.normal(0, 10, 3)
    return (colours[labels] + noise).clip(0, 255).astype(np.uint8), labels


def _save(root: Path, split: str, number: int, image: Pixels, labels: Pixels) -> None:
    city = CITIES[split][number % len(CITIES[split])]
    name = f"{city}_{number:06d}_000019"
    images, annotations = root / "leftImg8bit" / split / city, root / "gtFine" / split / city
    images.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(images / f"{name}{IMAGE}")
    if split != "test":
        annotations.mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(annotations / f"{name}{LABELS}")
