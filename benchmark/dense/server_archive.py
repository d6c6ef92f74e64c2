"""The archive that the server of Cityscapes scores: its test labels are not public, so nobody else can."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from benchmark.data import cityscapes
from benchmark.data.cityscapes import IMAGE, CityscapesFolder
from benchmark.dense import stack
from benchmark.errors import MissingInput
from benchmark.files import storage, write_atomically
from benchmark.tasks.segmentation import dataset

_LABEL_IDS = np.array(cityscapes.LABEL_IDS, np.uint8)


def write_archive(
    network: nn.Module,
    folder: CityscapesFolder,
    path: Path,
    device: torch.device,
    split: str = "test",
    whole: bool = True,
) -> int:
    """Write a zip of one PNG a frame, under the frame's own name, of its size, with label ids as pixels.

    Args:
        network: `benchmark.tasks.segmentation.segmentor`, which answers whole or by sliding as it is set up.
        folder: has `leftImg8bit/SPLIT`.
        path: of the archive, replaced if it is there.
        device: where the network runs.
        split: whose frames; the server scores `test`.
        whole: refuse a split that is not complete, as the server does.

    Returns:
        The number of frames.

    Raises:
        MissingInput: frames are not there.
    """
    if not (frames := folder.names(split)):
        raise MissingInput(f"{folder.images(split)} holds no images *{IMAGE}", cityscapes.FIX.format(folder.root))
    if whole:
        cityscapes.check_whole(split, len(frames))
    written = 0

    def write(file: Any) -> None:
        nonlocal written
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:  # PNG files are compressed already
            for name, train_ids in _predictions(network, folder, split, device):
                picture = io.BytesIO()
                Image.fromarray(_LABEL_IDS[train_ids]).save(picture, "png")
                archive.writestr(name, picture.getvalue())
                written += 1

    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, write)
    return written


def _predictions(
    network: nn.Module, folder: CityscapesFolder, split: str, device: torch.device
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Names of frames and their train ids H,W."""
    segmentor: Any = network.to(device).eval()
    with stack.scope("segmentation"), torch.no_grad():
        frames = dataset(folder, split, labelled=False)
        for item in (frames[position] for position in range(len(frames))):
            answer = segmentor.test_step({"inputs": [item["inputs"]], "data_samples": [item["data_samples"]]})[0]
            yield Path(item["data_samples"].img_path).name, answer.pred_sem_seg.data[0].cpu().numpy()
