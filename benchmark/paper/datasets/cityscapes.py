"""Cityscapes (Cordts et al., 2016), its fine annotations."""

from __future__ import annotations

from benchmark.paper.datasets.entry import DataSet, StandIn

DATA_SET = DataSet(
    name="cityscapes",
    title="Cityscapes",
    task="segmentation",
    layout="cityscapes",
    classes=19,
    training=2_975,
    test=500,
    stand_in=StandIn("generated-cityscapes-v1", "generated-cityscapes-v1"),
    trained=(3, 512, 1024),  # crops; costs are counted on whole images (caption of Table 6)
    counted=(3, 1024, 2048),
)
