"""Figures 2 and 7: saliency maps laid over their images, side by side, as one self-contained SVG file."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from benchmark.records.looked import Looked, Values
from benchmark.report import svg
from benchmark.report.svg import tag, text

WIDTH, GAP, HEAD, LEGEND = 240, 8, 26, 40  # pixels: of a picture, between pictures, of the column heads, of the scale
STRENGTH = 0.6  # of the colours over the image
TOP_SHARE = 0.99  # of the values that the scale distinguishes; scaled to a single peak, all else would be black
# From cold to hot with evenly rising lightness, so that a grey print keeps the order.
COLOURS = np.array([(0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)], float)


def picture(rows: Sequence[Looked], title: str, notes: Sequence[str] = ()) -> str:
    """Return an SVG with one row for each image: the image, then its maps over it, on one scale for the row."""
    heads = list(dict.fromkeys(head for row in rows for head in row.maps))
    width = (len(heads) + 1) * (WIDTH + GAP) - GAP
    parts = [text(title, 0, 14, "title")]
    top = 14 + GAP
    parts += [text(head, i * (WIDTH + GAP), top + 16, "head") for i, head in enumerate(["image", *heads])]
    top += HEAD
    for row in rows:
        drawn, height = _row(row, heads, top)
        parts += drawn
        top += height
    for note in notes:
        parts.append(text(note, 0, top + 12, "note"))
        top += 18
    described = f"{title}. Columns: image, {', '.join(heads)}. {' '.join(notes)}"
    style = ".title{font-size:14px;font-weight:bold}.head{font-size:13px}.note{font-size:11px}"
    return svg.picture(title, described, width, top, style, parts)


def _row(row: Looked, heads: Sequence[str], top: int) -> tuple[list[Markup], int]:
    with Image.open(row.image) as opened:
        image = opened.convert("RGB")
        image = image.resize((WIDTH, max(1, round(WIDTH * image.height / image.width))), Image.Resampling.LANCZOS)
    highest = scale_of(row.maps.values())
    parts = [_embedded(image, 0, top)]
    for column, head in enumerate(heads, start=1):
        if head in row.maps:
            parts.append(_embedded(overlaid(image, row.maps[head], highest), column * (WIDTH + GAP), top))
    legend_top = top + image.height + 4
    scale = Image.fromarray(coloured(np.linspace(0, 1, WIDTH)[None])).resize((WIDTH, 8))
    parts.append(_embedded(scale, WIDTH + GAP, legend_top))
    said = f"0 to {highest:.3g} and more; the mean of each map is 1"
    parts.append(text(said, WIDTH + GAP, legend_top + 20, "note"))
    return parts, image.height + LEGEND


def scale_of(maps: Iterable[Values]) -> float:
    """Return the value that gets the hottest colour: nearly the largest value of all maps of a row."""
    values = np.concatenate([found.ravel() for found in maps])
    return float(np.quantile(values, TOP_SHARE)) or 1.0


def overlaid(image: Image.Image, values: Values, highest: float) -> Image.Image:
    """Return the image in grey under the colours of a map H,W that covers it."""
    shares = Image.fromarray(np.clip(values / highest, 0, 1).astype(np.float32))
    smooth = np.asarray(shares.resize(image.size, Image.Resampling.BILINEAR), dtype=np.float64)
    return Image.blend(image.convert("L").convert("RGB"), Image.fromarray(coloured(smooth)), STRENGTH)


def coloured(shares: Values) -> NDArray[np.uint8]:
    """Return colours H,W,3 (uint8) of shares H,W between 0 and 1."""
    places = np.linspace(0, 1, len(COLOURS))
    channels = [np.interp(shares, places, COLOURS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _embedded(image: Image.Image, x: int, y: int) -> Markup:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return tag("image", x=x, y=y, width=image.width, height=image.height, href=f"data:image/png;base64,{data}")
