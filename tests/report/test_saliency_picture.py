"""The picture of Figures 2 and 7, from maps to a file that can be printed."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.records.looked import Looked
from benchmark.report.saliency_figure import COLOURS, WIDTH, coloured, overlaid, picture, scale_of

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    path = tmp_path / "a & b.png"
    Image.new("RGB", (120, 60), (200, 40, 40)).save(path)
    return path


def peaked(row: int, column: int) -> np.ndarray:
    found = np.full((4, 8), 0.1)
    found[row, column] = 20.0
    return found


def images_of(svg: str) -> list[Image.Image]:
    data = re.findall(r'href="data:image/png;base64,([^"]+)"', svg)
    return [Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB") for text in data]


def test_a_row_has_the_image_each_map_and_the_scale(photograph: Path) -> None:
    maps = {"student": peaked(0, 0), "denoised student": peaked(1, 4), "teacher": peaked(1, 5)}
    svg = picture([Looked(photograph, maps)], "A & B", ["said <of> it"])
    root = ET.fromstring(svg)
    assert [text.text for text in root.findall(f"{SVG}text")][:5] == ["A & B", "image", *maps]
    assert root.findall(f"{SVG}text")[-1].text == "said <of> it"
    found = images_of(svg)
    assert [image.size for image in found] == [(WIDTH, WIDTH // 2)] * 4 + [(WIDTH, 8)]
    assert root.get("width") == str(4 * WIDTH + 3 * 8)
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")  # nothing is fetched


def test_the_hottest_place_of_a_map_is_where_its_peak_is(photograph: Path) -> None:
    values = peaked(3, 6)
    image = Image.open(photograph).resize((240, 120))
    brightness = np.asarray(overlaid(image, values, 20.0).convert("L"), dtype=float)
    y, x = np.unravel_index(brightness.argmax(), brightness.shape)
    assert (y * 4 // 120, x * 8 // 240) == (3, 6)


def test_maps_of_a_row_share_their_scale_and_images_may_lack_a_column(photograph: Path) -> None:
    strong, weak = np.full((4, 8), 10.0), np.full((4, 8), 1.0)
    assert scale_of([strong, weak]) == pytest.approx(10.0)
    svg = picture(
        [Looked(photograph, {"student": strong, "teacher": weak}), Looked(photograph, {"student": weak})], "T"
    )
    _, first, second, _, _, third, _ = images_of(svg)
    assert np.asarray(first, float).mean() > np.asarray(second, float).mean() + 50
    assert np.asarray(third, float).mean() == pytest.approx(np.asarray(first, float).mean(), abs=1)


def test_colours_rise_in_lightness_so_that_a_grey_print_keeps_the_order() -> None:
    ramp = coloured(np.linspace(0, 1, 50)[None])
    lightness = np.asarray(Image.fromarray(ramp).convert("L"), dtype=int)[0]
    assert (np.diff(lightness) >= 0).all()
    assert lightness[-1] - lightness[0] > 200
    np.testing.assert_array_equal(ramp[0, 0], COLOURS[0])
