"""ImageNet-100: a hundred classes of ImageNet, by the list of CMC (see benchmark/data/imagenet100.py)."""

from __future__ import annotations

from benchmark.paper.datasets.entry import DataSet, OnDisk, SplitFiles, StandIn
from benchmark.paper.datasets.imagenet import ARRANGE

DATA_SET = DataSet(
    name="imagenet100",
    title="ImageNet-100",
    task="classification",
    layout="image folder",
    classes=100,
    training=126_689,
    test=5_000,
    stand_in=StandIn("generated-imagefolder", "generated-imagefolder-v1"),
    on_disk=OnDisk(
        folders=("imagenet100", "imagenet"),  # a hundred classes are taken from a whole ImageNet
        splits={"train": SplitFiles(("train/",)), "val": SplitFiles(("val/",), 5_000)},  # the list decides on `train`
        fix=ARRANGE,
        in_part=True,
    ),
    trained=(3, 224, 224),
    counted=(3, 224, 224),
    remembered=130_000,  # of any list: at most 1300 images a class
)
