"""The archive for Cityscapes' server."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("mmseg", reason="needs pip install '.[dense]'")

from benchmark.data import cityscapes, generated_cityscapes
from benchmark.data.cityscapes import CityscapesFolder
from benchmark.dense import stack
from benchmark.dense.server_archive import write_archive
from benchmark.errors import MissingInput
from benchmark.tasks.segmentation import segmentor

CPU = torch.device("cpu")


def test_it_holds_a_map_of_label_ids_for_every_frame(tmp_path: Path) -> None:
    folder = CityscapesFolder(generated_cityscapes.generate(tmp_path / "cityscapes"))
    with stack.scope("segmentation"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        network = segmentor("deeplabv3_mobilenetv2", 19)
        assert write_archive(network, folder, tmp_path / "out" / "test.zip", CPU, whole=False) == 2
        frames = [folder.images("test") / f"{name}{cityscapes.IMAGE}" for name in folder.names("test")]
        with zipfile.ZipFile(tmp_path / "out" / "test.zip") as archive:
            assert archive.testzip() is None
            assert archive.namelist() == [frame.name for frame in frames]
            for frame in frames:
                found = Image.open(io.BytesIO(archive.read(frame.name)))
                assert (found.mode, found.size) == ("L", Image.open(frame).size)
                pixels = np.array(Image.open(frame).convert("RGB"))[..., ::-1].astype(np.float32)
                image = torch.from_numpy(pixels - np.float32([104.00698793, 116.66876762, 122.67891434]))
                with torch.no_grad():
                    scores = network.encode_decode(image.permute(2, 0, 1)[None], [])
                expected = np.array(cityscapes.LABEL_IDS)[scores[0].argmax(0).numpy()]
                assert (np.array(found) == expected).all()


def test_an_archive_that_the_server_would_refuse_is_not_written(tmp_path: Path) -> None:
    folder = CityscapesFolder(generated_cityscapes.generate(tmp_path / "cityscapes"))
    network = torch.nn.Identity()
    with pytest.raises(MissingInput, match="2 images, Cityscapes has 1525"):
        write_archive(network, folder, tmp_path / "test.zip", CPU)
    with pytest.raises(MissingInput, match="holds no images"):
        write_archive(network, CityscapesFolder(tmp_path), tmp_path / "test.zip", CPU, whole=False)
    assert not (tmp_path / "test.zip").exists()
