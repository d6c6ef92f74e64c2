"""CIRKD's networks around which mmseg works: names, losses, preprocessing, whole and sliding inference."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

pytest.importorskip("mmseg", reason="needs pip install '.[dense]'")

from benchmark.dense import stack, weights
from benchmark.models.registry import model
from benchmark.models.taps import Network
from benchmark.tasks.segmentation import segmentor as built

NAMES = ("deeplabv3_resnet18", "pspnet_resnet18", "deeplabv3_mobilenetv2")
CLASSES = 19


@pytest.fixture(autouse=True)
def scope() -> Iterator[None]:
    with stack.scope("segmentation"), warnings.catch_warnings():
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


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_cross_entropies_over_pixels_that_have_a_class(name: str) -> None:
    found = segmentor(name).eval()  # without dropout, both passes are the same
    images = torch.randn(2, 3, 64, 64)
    labels = torch.randint(0, CLASSES, (2, 64, 64))
    labels[:, :20] = 255
    losses = found.loss(images, samples(labels))

    def expected(scores: Tensor) -> Tensor:
        full = F.interpolate(scores, (64, 64), mode="bilinear", align_corners=True).log_softmax(1)
        known = labels != 255
        return -full.permute(0, 2, 3, 1)[known].gather(1, labels[known][:, None]).mean()

    main, *auxiliary = found(images)
    torch.testing.assert_close(losses["loss_ce"], expected(main))
    if "mobilenet" in name:
        assert not auxiliary and set(losses) == {"loss_ce"}
    else:
        torch.testing.assert_close(losses["loss_aux"], 0.4 * expected(auxiliary[0]))
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in found.parameters())


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
    weights.load_backbone(found, tmp_path / "imagenet.pth")
    loaded = (found.pretrained if "resnet" in name else found.pretrained.net).state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in loaded)


def test_whole_inference_enlarges_the_scores_of_the_whole_image() -> None:
    found = segmentor("pspnet_resnet18").eval()
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    answer = found.test_step({"inputs": [image], "data_samples": samples(torch.zeros(1, 64, 96))})[0]
    plain = Network(found, model("pspnet_resnet18").adapter(found), ("seg_logits",))
    mean = torch.tensor([104.00698793, 116.66876762, 122.67891434]).view(3, 1, 1)
    scores = plain(image.float()[None] - mean)["seg_logits"]
    full = F.interpolate(scores, (64, 96), mode="bilinear", align_corners=True)
    torch.testing.assert_close(answer.seg_logits.data, full[0])
    assert torch.equal(answer.pred_sem_seg.data[0], full[0].argmax(0))


def test_sliding_inference_averages_windows_where_they_overlap() -> None:
    slide = {"mode": "slide", "crop_size": (64, 64), "stride": (32, 32)}
    found = segmentor("pspnet_resnet18", test_cfg=slide).eval()
    images = torch.randn(1, 3, 64, 96)
    meta = {"ori_shape": (64, 96), "img_shape": (64, 96)}
    answer = found.inference(images, [meta])
    left, right = (found.encode_decode(images[..., start : start + 64], []) for start in (0, 32))
    torch.testing.assert_close(answer[..., :32], left[..., :32])
    torch.testing.assert_close(answer[..., 32:64], (left[..., 32:] + right[..., :32]) / 2)
    torch.testing.assert_close(answer[..., 64:], right[..., 32:])
