"""The archive that the Cityscapes server scores: a student's predictions for the test images (secret labels)."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmark.data import cityscapes, finder
from benchmark.machine.files import write_atomically
from benchmark.models.checkpoints import WeightFile
from benchmark.paper.datasets import DATA_SETS
from benchmark.train.dense import loading
from benchmark.train.dense.segmentation import dataset, segmentor
from benchmark.train.precision import EVALUATED, arithmetic

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # of a zip's dates: the same predictions give the same bytes
_LABEL_IDS = np.array(cityscapes.LABEL_IDS, np.uint8)


def write_server_archive(
    model: str,
    student: Path,
    archive: Path,
    data_dir: Path | None = None,
    device: str = "cpu",
    whole: bool = True,
    precision: str = EVALUATED,
    say: Callable[[str], None] = print,
) -> Path:
    """Write a zip with one PNG for each image, named as the image, with the archives' own label numbers.

    Return its path.

    Args:
        model: name of the segmentation network.
        student: file of its weights, as a run leaves it.
        archive: becomes the zip; an older one is replaced once this one is complete.
        data_dir: where Cityscapes lies, as for `run`.
        device: the device that predicts.
        whole: refuse a folder that has not all 1,525 test images.
        precision: of the run that left the weights; bf16 and fp16 predict as fp32.
        say: gets lines on progress.

    Raises:
        MissingInput: the test images or the weights are not there, or do not fit.
    """
    wanted = DATA_SETS["cityscapes"]  # the server is its own
    folder = cityscapes.require(wanted, data_dir, ("test",))
    names = folder.names("test")
    if whole:
        finder.check_whole(wanted, "test", len(names))
    network = segmentor(model, len(cityscapes.LABEL_IDS))
    loading.load_whole(network, WeightFile.read(student))
    network.to(device).eval()
    images = dataset(folder, "test", labelled=False)

    with arithmetic(precision):
        write_atomically(archive, lambda file: _predict(network, images, file, say))
    return archive


def _predict(network: Any, images: Any, file: BinaryIO, say: Callable[[str], None]) -> None:
    with zipfile.ZipFile(file, "w") as zipped:
        for number in range(len(images)):
            item = images[number]
            with torch.no_grad():
                sample = network.test_step({"inputs": [item["inputs"]], "data_samples": [item["data_samples"]]})[0]
            zipped.writestr(zipfile.ZipInfo(Path(sample.img_path).name, _EARLIEST), _png(sample.pred_sem_seg.data))
            if (number + 1) % 100 == 0 or number + 1 == len(images):
                say(f"{number + 1} of {len(images)} images")


def _png(classes: Tensor) -> bytes:
    """Return class positions 1,H,W as a PNG of label numbers."""
    content = BytesIO()
    Image.fromarray(_LABEL_IDS[classes.squeeze(0).cpu().numpy()]).save(content, "PNG")
    return content.getvalue()
