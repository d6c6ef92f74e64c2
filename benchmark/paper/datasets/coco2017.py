"""COCO 2017 (Lin et al., 2014)."""

from __future__ import annotations

from benchmark.paper.datasets.entry import DataSet, OnDisk, SplitFiles, StandIn

DATA_SET = DataSet(
    name="coco2017",
    title="COCO 2017",
    task="detection",
    layout="coco",
    classes=80,
    training=117_266,  # of 118,287: the others have no box
    test=5_000,
    stand_in=StandIn("generated-coco-v1", "generated-coco-v1"),
    on_disk=OnDisk(
        folders=("coco",),
        splits={  # images as cocodataset.org states
            "train2017": SplitFiles(("annotations/instances_train2017.json", "train2017/"), 118_287),
            "val2017": SplitFiles(("annotations/instances_val2017.json", "val2017/"), 5_000),
        },
        fix="unpack train2017.zip, val2017.zip and annotations_trainval2017.zip of cocodataset.org into {}",
    ),
)
