"""Cityscapes (Cordts et al., 2016), its fine annotations."""

from __future__ import annotations

from benchmark.paper.datasets.entry import DataSet, OnDisk, SplitFiles, StandIn

DATA_SET = DataSet(
    name="cityscapes",
    title="Cityscapes",
    task="segmentation",
    layout="cityscapes",
    classes=19,
    training=2_975,
    test=500,
    stand_in=StandIn("generated-cityscapes-v1", "generated-cityscapes-v1"),
    on_disk=OnDisk(
        folders=("cityscapes",),
        splits={  # images with fine labels, as cityscapes-dataset.com states
            "train": SplitFiles(("leftImg8bit/train/",), 2_975),
            "val": SplitFiles(("leftImg8bit/val/",), 500),
            "test": SplitFiles(("leftImg8bit/test/",), 1_525, used=False),  # its labels are secret
        },
        fix="unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of cityscapes-dataset.com into {}",
    ),
    trained=(3, 512, 1024),  # crops; costs are counted on whole images (caption of Table 6)
    counted=(3, 1024, 2048),
)
