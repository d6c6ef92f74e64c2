"""The four operations that one source adds to RandAugment, and the choice among all nineteen."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

from benchmark.data.generated_folder import picture
from benchmark.data.randaugment import ADDED, blurred, distorted, lent_generators, randaugment, skewed, zoomed

SIDE = 60


def photo() -> Image.Image:
    return picture(3, SIDE, SIDE, np.random.default_rng(3))


def pixels(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.asarray(image).astype(int)


def test_a_zoomed_image_is_a_small_one_on_black() -> None:
    found = pixels(zoomed(photo(), 0.9))  # the recipes' magnitude 9: 0.36 of the side, 22 pixels
    margin = (SIDE - 22) // 2
    assert found.shape == (SIDE, SIDE, 3)
    assert found[:margin].max() == found[:, :margin].max() == found[margin + 22 :].max() == 0
    small = pixels(photo().resize((22, 22), Image.Resampling.BICUBIC))
    assert (found[margin : margin + 22, margin : margin + 22] == small).all()


def test_a_distortion_moves_the_middle_and_only_at_the_highest_level() -> None:
    ramp = np.broadcast_to(np.arange(SIDE, dtype=np.uint8)[None, :, None] * 4, (SIDE, SIDE, 3))
    image = Image.fromarray(np.ascontiguousarray(ramp))
    assert distorted(image, 0.99) is image
    found = pixels(distorted(image, 1.0)) / 4  # where the colour of each pixel comes from, from left to right
    assert np.abs(found[0] - ramp[0] / 4).max() < 2  # the outline stays in place
    assert found[SIDE // 2, SIDE // 2] == pytest.approx(50, abs=2)  # 20 pixels to the right of the middle


def test_a_blur_keeps_the_mean_and_lowers_the_contrast() -> None:
    found, before = pixels(blurred(photo(), 0.9)), pixels(photo())
    assert found.mean() == pytest.approx(before.mean(), abs=0.5)
    assert np.abs(np.diff(found, axis=1)).mean() < 0.97 * np.abs(np.diff(before, axis=1)).mean()


def test_a_skewed_image_has_its_corners_where_the_perspective_puts_them() -> None:
    chart = Image.new("RGB", (SIDE, SIDE), (200, 200, 200))
    shares = {}
    for seed in range(8):
        random.seed(seed)
        found = pixels(skewed(chart, 0.9))[:, :, 0]
        # Corners move by 17 of 60 pixels: outwards, and all is grey; inwards, and black comes in beside them.
        shares[seed] = float((found == 0).mean())
    assert {share == 0 for share in shares.values()} == {True, False}
    assert max(shares.values()) < 0.6


@pytest.mark.parametrize(("operations", "number"), [("timm", 15), ("sota", 19)])
def test_each_operation_is_chosen_equally_often(operations: str, number: int) -> None:
    transform = randaugment("rand-m9-mstd0.5", SIDE, "bilinear", operations)
    names = [operation.name for operation in transform.ops]
    assert len(names) == len(set(names)) == number
    assert (set(ADDED) <= set(names)) == (operations == "sota")
    counted = dict.fromkeys(names, 0)
    for operation in transform.ops:
        operation.prob = 1.0
        original = operation.aug_fn

        def counting(image: Image.Image, *given: object, name: str = operation.name, **more: object) -> Image.Image:
            counted[name] += 1
            return image

        assert callable(original)
        operation.aug_fn = counting
    with lent_generators(0):
        for _ in range(1000):
            transform(photo())
    assert sum(counted.values()) == 2000
    assert min(counted.values()) > 0.6 * 2000 / number
    assert max(counted.values()) < 1.4 * 2000 / number
    randaugment.cache_clear()


def test_magnitudes_vary_about_that_of_the_recipe() -> None:
    transform = randaugment("rand-m9-mstd0.5", SIDE, "bilinear", "sota")
    (zoom,) = (operation for operation in transform.ops if operation.name == "Zoom")
    sides = set()
    with lent_generators(1):
        for _ in range(200):
            found = pixels(zoom(photo()))[:, :, 0]
            filled = int((found.max(axis=0) > 0).sum())
            sides.add(filled)
    assert SIDE in sides  # half of the images are left as they are
    assert 18 <= min(sides) < 22 <= sorted(sides)[-2] <= 24
