"""Generated images with boxes in COCO's layout, to prove the path of detection where there is no COCO.

THESE ARE NOT PHOTOGRAPHS and no figure measured on them says anything about COCO. An image shows one to four discs,
squares or diamonds on a noisy plane; shape and colour together are the category, of which COCO's own 80 names are kept
and the first six are shown. PNG files hold every pixel as it was drawn.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.machine.files import storage

# A change of the images changes the set's name: its file in `paper/datasets`.
SIZE = 256
TRAIN, TEST = 32, 8
_COLOURS = ((220, 60, 50), (50, 90, 220))
_SHAPES = ("disc", "square", "diamond")
DRAWN_CATEGORIES = len(_SHAPES) * len(_COLOURS)

Pixels = NDArray[np.uint8]


def generate(root: Path, names: tuple[str, ...], train: int = TRAIN, test: int = TEST, size: int = SIZE) -> Path:
    """Write the set to `root`, unless it is there already, and return `root`.

    Args:
        root: folder that gets `annotations`, `train2017` and `val2017`.
        names: all category names, in order; the images show the first six.
        train: number of training images.
        test: number of test images.
        size: length of an image's sides, in pixels.
    """
    if (root / "annotations").is_dir():
        return root
    with storage(root):
        root.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=root.parent, prefix=f".{root.name}-"))
        for split, count, seed in (("train2017", train, 1), ("val2017", test, 2)):
            _split(scratch, split, count, np.random.default_rng(seed), names, size)
        (scratch / "unfinished").rename(scratch / "annotations")
        try:
            scratch.rename(root)
        except OSError:  # another process was faster
            shutil.rmtree(scratch)
            if not root.is_dir():
                raise
    return root


def _split(root: Path, split: str, count: int, draw: np.random.Generator, names: tuple[str, ...], size: int) -> None:
    folder, notes = root / split, root / "unfinished"
    folder.mkdir()
    notes.mkdir(exist_ok=True)
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number in range(1, count + 1):
        pixels, found = _image(draw, size)
        name = f"{number:012d}.png"
        Image.fromarray(pixels).save(folder / name)
        images.append({"id": number, "file_name": name, "height": size, "width": size})
        for category, box in found:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "segmentation": [_outline(box)],
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    content = {"info": {"description": __doc__}, "images": images, "annotations": annotations}
    (notes / f"instances_{split}.json").write_text(json.dumps(content | {"categories": categories}))


def _image(draw: np.random.Generator, size: int) -> tuple[Pixels, list[tuple[int, list[int]]]]:
    """Draw an image: its pixels H,W,3, and the categories shown, each with its box x, y, width, height."""
    plane = draw.integers(90, 170, 3)
    pixels = np.clip(plane + draw.integers(-25, 26, (size, size, 3)), 0, 255).astype(np.uint8)
    rows, columns = np.mgrid[:size, :size]
    found: list[tuple[int, list[int]]] = []
    for _ in range(int(draw.integers(1, 5))):
        half = int(draw.integers(size // 14, size // 5))
        x, y = (int(draw.integers(half, size - half)) for _ in range(2))
        category = int(draw.integers(DRAWN_CATEGORIES))
        across, down = np.abs(columns - x), np.abs(rows - y)
        shape = _SHAPES[category % len(_SHAPES)]
        if shape == "disc":
            inside = across**2 + down**2 <= half**2
        else:
            inside = (np.maximum(across, down) if shape == "square" else across + down) <= half
        pixels[inside] = _COLOURS[category // len(_SHAPES)]
        found.append((category, [x - half, y - half, 2 * half, 2 * half]))
    return pixels, found


def _outline(box: list[int]) -> list[int]:
    x, y, width, height = box
    return [x, y, x + width, y, x + width, y + height, x, y + height]
