"""CIRKD's networks as mmseg's models: the same weights and scores, CIRKD's loss, whole and sliding inference."""

from __future__ import annotations

from typing import Any

import pytest
import segmentation_runs  # noqa: F401  skips without mmseg
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.models import openmmlab
from benchmark.models.registry import model
from benchmark.models.taps import Network
from benchmark.train.dense.segmentation import TASK, segmentor

NETWORKS = ["deeplabv3_resnet18", "pspnet_resnet18", "deeplabv3_mobilenetv2"]
MEANS = torch.tensor([104.00698793, 116.66876762, 122.67891434]).view(3, 1, 1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def sample(labels: Tensor) -> Any:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    meta = {"ori_shape": tuple(labels.shape), "img_shape": tuple(labels.shape)}
    return SegDataSample(gt_sem_seg=PixelData(data=labels.unsqueeze(0)), metainfo=meta)


def prepared(network: Any, images: Tensor, labels: Tensor, training: bool) -> tuple[Tensor, Any]:
    found = network.data_preprocessor(
        {"inputs": list(images), "data_samples": [sample(image) for image in labels]}, training
    )
    return found["inputs"], found["data_samples"]


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_and_scores_are_those_of_the_plain_network(name: str) -> None:
    plain = model(name).build(5).eval()
    network = segmentor(plain, 5).eval()
    assert list(network.state_dict()) == list(plain.state_dict())
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        scores = network(images)
        assert torch.equal(scores[0], plain(images))
        tapped = Network(network, model(name).adapter(network), ["*_logits", "seg_feature"])
        seen = TASK.teach(tapped, images, {})
    assert torch.equal(seen["seg_logits"], scores[0])
    assert ("aux_logits" in seen) == (len(scores) == 2) == ("resnet" in name)
    assert len(list(network.backbone.state_dict())) < len(list(plain.state_dict()))
    first = next(iter(network.backbone.state_dict()))
    assert first == ("conv1.weight" if "resnet" in name else "features.0.0.weight"), "as classifiers' files have it"


def test_mmseg_builds_it_from_a_configuration() -> None:
    with openmmlab.scope("mmseg"):
        from mmseg.registry import MODELS

        segmentor("pspnet_resnet18", 4)  # registers it
        built = MODELS.build({"type": "CirkdSegmentor", "network": "pspnet_resnet18", "num_classes": 4})
    assert built.out_channels == 4
    assert built.eval()(torch.zeros(1, 3, 32, 32))[0].shape == (1, 4, 4, 4)


@pytest.mark.parametrize("name", ["pspnet_resnet18", "deeplabv3_mobilenetv2"])
def test_the_loss_is_cirkds(name: str) -> None:
    network = segmentor(name, 5).eval()
    images = torch.randint(256, (2, 3, 64, 96), dtype=torch.uint8)
    labels = torch.randint(5, (2, 64, 96))
    labels[:, :20] = 255
    inputs, samples = prepared(network, images, labels, training=True)
    torch.testing.assert_close(inputs, images - MEANS)
    losses = network.loss(inputs, samples)
    scores = [F.interpolate(s, (64, 96), mode="bilinear", align_corners=True) for s in network(inputs)]
    expected = [F.cross_entropy(s, labels, ignore_index=255) for s in scores]
    torch.testing.assert_close(losses["loss_ce"], expected[0])
    if name == "pspnet_resnet18":
        torch.testing.assert_close(losses["loss_aux"], 0.4 * expected[1])
    else:
        assert list(losses) == ["loss_ce"]


def test_a_crop_without_any_label_has_a_loss_of_zero() -> None:
    network = segmentor("pspnet_resnet18", 5).train()
    inputs, samples = prepared(network, torch.zeros(2, 3, 32, 32), torch.full((2, 32, 32), 255), training=True)
    assert [float(loss.detach()) for loss in network.loss(inputs, samples).values()] == [0.0, 0.0]


def test_smaller_crops_of_a_batch_are_padded_with_what_is_ignored() -> None:
    network = segmentor("pspnet_resnet18", 5)
    images, labels = [torch.full((3, 20, 40), 90.0), torch.full((3, 32, 24), 90.0)], torch.zeros(32, 40).long()
    found = network.data_preprocessor(
        {"inputs": images, "data_samples": [sample(labels[:20]), sample(labels[:, :24])]}, True
    )
    assert found["inputs"].shape == (2, 3, 32, 40)
    assert (found["inputs"][0, :, 20:] == 0).all(), "zeros, which is the mean colour"
    assert (TASK.batch(found["inputs"], found["data_samples"]).targets[1, :, 24:] == 255).all()


def predicted(network: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    inputs, samples = prepared(network, images, torch.zeros(len(images), 48, 96).long(), training=False)
    with torch.no_grad():
        found = network.predict(inputs, samples)
    return inputs, torch.stack([one.seg_logits.data for one in found])


def test_whole_inference_upsamples_once_with_aligned_corners() -> None:
    network = segmentor("deeplabv3_mobilenetv2", 5).eval()
    inputs, found = predicted(network, torch.randint(256, (1, 3, 48, 96), dtype=torch.uint8))
    with torch.no_grad():
        expected = F.interpolate(network(inputs)[0], (48, 96), mode="bilinear", align_corners=True)
    torch.testing.assert_close(found, expected)


def test_sliding_inference_averages_windows() -> None:
    plain = model("deeplabv3_mobilenetv2").build(5)
    slide = {"mode": "slide", "crop_size": (48, 64), "stride": (48, 32)}
    images = torch.randint(256, (1, 3, 48, 96), dtype=torch.uint8)
    network = segmentor(plain, 5, slide).eval()
    inputs, found = predicted(network, images)
    with torch.no_grad():
        windows = [
            F.interpolate(plain(inputs[..., start : start + 64]), (48, 64), mode="bilinear", align_corners=True)
            for start in (0, 32)
        ]
    expected = torch.zeros(1, 5, 48, 96)
    expected[..., :64] += windows[0]
    expected[..., 32:] += windows[1]
    expected[..., 32:64] /= 2
    torch.testing.assert_close(found, expected)
    assert not torch.equal(found, predicted(segmentor(plain, 5).eval(), images)[1])
