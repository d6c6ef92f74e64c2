"""ImageNet (ILSVRC 2012)."""

from __future__ import annotations

from benchmark.paper.datasets.entry import DataSet, OnDisk, SplitFiles, StandIn

ARRANGE = (
    "arrange the images as {0}/train/CLASS/IMAGE.JPEG and {0}/val/CLASS/IMAGE.JPEG, CLASS being the wnid, such as "
    "n01440764, in both; the archives come from https://image-net.org/download"
)
DATA_SET = DataSet(
    name="imagenet",
    title="ImageNet",
    task="classification",
    layout="image folder",
    classes=1000,
    training=1_281_167,
    test=50_000,
    stand_in=StandIn("generated-imagefolder", "generated-imagefolder-v1"),
    on_disk=OnDisk(
        folders=("imagenet",),
        splits={"train": SplitFiles(("train/",), 1_281_167), "val": SplitFiles(("val/",), 50_000)},
        fix=ARRANGE,
        in_part=True,
    ),
    trained=(3, 224, 224),
    counted=(3, 224, 224),
)
