"""Figure 6: class scores of student, denoised student and teacher on single test images. No image is drawn."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.records.looked import Scored
from benchmark.report.charts import Sheet, bars_chart


def scores_sheet(number: str, images: Sequence[Scored], said: Sequence[str]) -> Sheet:
    """Return a sheet with a chart for each image."""
    charts = tuple(
        bars_chart(
            list(image.scores.items()),
            image.classes,
            f"test image {image.position}, of class {image.target}",
            "predicted score",
        )
        for image in images
    )
    return Sheet(f"Figure {number}: class scores of student, denoised student and teacher", tuple(said), charts)
