"""CIRKD's networks around which mmseg works: names, taps, preprocessing, and weights of a classifier."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("mmseg", reason="needs pip install '.[dense]'")

from benchmark.models import openmmlab
from benchmark.models.checkpoints import WeightFile
from benchmark.models.registry import model
from benchmark.models.taps import Network
from benchmark.train.dense import loading
from benchmark.train.dense.segmentation import segmentor as built

NAMES = ("deeplabv3_resnet18", "pspnet_resnet18", "deeplabv3_mobilenetv2")
CLASSES = 19


@pytest.fixture(autouse=True)
def scope() -> Iterator[None]:
    with openmmlab.scope("mmseg"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def segmentor(name: str, **more: Any) -> Any:
    torch.manual_seed(0)
    return built(name, CLASSES, **more)


def samples(labels: Tensor) -> list[Any]:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    size = tuple(labels.shape[1:])
    meta = {"img_shape": size, "ori_shape": size, "pad_shape": size}
    return [SegDataSample(gt_sem_seg=PixelData(data=one[None]), metainfo=meta) for one in labels]


@pytest.mark.parametrize("name", NAMES)
def test_a_segmentor_has_the_networks_own_names_weights_and_taps(name: str) -> None:
    found = segmentor(name)
    torch.manual_seed(0)
    plain = model(name).build(CLASSES)
    assert list(found.state_dict()) == list(plain.state_dict())
    assert all(torch.equal(value, plain.state_dict()[key]) for key, value in found.state_dict().items())
    adapters = model(name).adapter(found), model(name).adapter(plain)
    assert adapters[0] == adapters[1]
    images = torch.randn(2, 3, 64, 64)
    networks = [Network(net.eval(), adapters[0], tuple(adapters[0].taps)) for net in (found, plain)]
    seen, expected = networks[0](images), networks[1](images)
    assert seen.keys() == expected.keys() >= {"stage1", "stage4", "seg_feature", "seg_logits"}
    assert all(torch.equal(seen[role], expected[role]) for role in seen)


def test_images_become_blue_first_without_their_mean_and_short_ones_are_padded_with_it() -> None:
    found = segmentor("pspnet_resnet18")
    mean = torch.tensor([104.00698793, 116.66876762, 122.67891434])  # blue, green, red
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    image[0] = 105  # blue, as OpenCV reads images
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    small = samples(torch.zeros(1, 4, 8, dtype=torch.long))[0]
    batch = {"inputs": [image, image[:, :4]], "data_samples": [samples(labels)[0], small]}
    done = found.data_preprocessor(batch, True)
    torch.testing.assert_close(done["inputs"][0, :, 0, 0], torch.tensor([105.0, 0.0, 0.0]) - mean)
    assert torch.equal(done["inputs"][1, :, 4:], torch.zeros(3, 4, 8)), "the mean itself, as CIRKD pads"
    assert (done["data_samples"][1].gt_sem_seg.data[0, 4:] == 255).all()


@pytest.mark.parametrize("name", ["pspnet_resnet18", "deeplabv3_mobilenetv2"])
def test_a_classifiers_weights_load_into_the_backbone(name: str, tmp_path: Path) -> None:
    found, donor = segmentor(name), model(name).build(CLASSES)
    inner = donor.pretrained if "resnet" in name else donor.pretrained.net
    state = {key: value + 1 for key, value in inner.state_dict().items()} | {"fc.weight": torch.zeros(1000, 512)}
    torch.save(state, tmp_path / "imagenet.pth")
    loading.load_backbone(found, WeightFile.read(tmp_path / "imagenet.pth"))
    loaded = (found.pretrained if "resnet" in name else found.pretrained.net).state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in loaded)
