"""COCO 2017 (Lin et al., 2014)."""

from __future__ import annotations

from benchmark.paper.datasets.entry import DataSet, StandIn

DATA_SET = DataSet(
    name="coco2017",
    title="COCO 2017",
    task="detection",
    layout="coco",
    classes=80,
    training=117_266,  # of 118,287: the others have no box
    test=5_000,
    stand_in=StandIn("generated-coco-v1", "generated-coco-v1"),
)
