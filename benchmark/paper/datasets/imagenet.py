"""ImageNet (ILSVRC 2012)."""

from __future__ import annotations

from benchmark.paper.datasets.entry import DataSet, StandIn

DATA_SET = DataSet(
    name="imagenet",
    title="ImageNet",
    task="classification",
    layout="image folder",
    classes=1000,
    training=1_281_167,
    test=50_000,
    stand_in=StandIn("generated-imagefolder", "generated-imagefolder-v1"),
    trained=(3, 224, 224),
    counted=(3, 224, 224),
)
