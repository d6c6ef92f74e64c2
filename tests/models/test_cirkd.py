"""CIRKD's segmentation networks: sizes of Table 6, names of their checkpoints, and taps."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.models.counting import cirkd_macs, macs, on_meta, parameters
from benchmark.models.registry import model
from benchmark.models.taps import Network

INPUT = (1, 3, 1024, 2048)
# Parameters, multiply-adds by CIRKD's counter and by a true one, as reported for that code's own models.
SIZES = {
    "deeplabv3_resnet101": ("61.119", "2371.66", "2063.35"),
    "deeplabv3_resnet18": ("13.608", "572.01", "517.50"),
    "pspnet_resnet18": ("12.919", "507.35", "488.51"),
    "deeplabv3_mobilenetv2": ("3.233", "128.92", "106.54"),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_those_of_the_source(name: str) -> None:
    network = on_meta(name, 19).network
    found = (parameters(network) / 1e6, cirkd_macs(network, INPUT) / 1e9, macs(network, INPUT) / 1e9)
    assert (f"{found[0]:.3f}", f"{found[1]:.2f}", f"{found[2]:.2f}") == SIZES[name]


@pytest.mark.parametrize("name", SIZES)
def test_maps_have_an_eighth_of_the_side(name: str) -> None:
    shapes = on_meta(name, 19).shapes(torch.empty(1, 3, 512, 1024, device="meta"))
    assert shapes["seg_logits"] == (19, 64, 128)
    assert shapes["seg_feature"] == (256 if "101" in name else 128, 64, 128)
    assert ("aux_logits" in shapes) == ("resnet" in name)


@pytest.mark.parametrize("name", ["deeplabv3_resnet18", "pspnet_resnet18", "deeplabv3_mobilenetv2"])
def test_the_feature_is_what_the_classifier_reads(name: str) -> None:
    torch.manual_seed(0)
    network = model(name).build(5).eval()
    tapped = Network(network, model(name).adapter(network), ["seg_*"])
    with torch.no_grad():
        outputs = tapped(images := torch.randn(1, 3, 64, 96))
        assert torch.allclose(tapped.classifier(outputs["seg_feature"]), outputs["seg_logits"], atol=1e-6)
        assert torch.equal(network(images), outputs["seg_logits"])


def test_dilations_take_the_place_of_strides() -> None:
    resnet = model("deeplabv3_resnet18").build(5).get_submodule("pretrained")
    found = {
        name: (module.stride[0], module.dilation[0])
        for name, module in resnet.named_modules()
        if isinstance(module, nn.Conv2d) and name.startswith(("layer3", "layer4")) and module.kernel_size == (3, 3)
    }
    assert found == {
        "layer3.0.conv1": (1, 1),
        "layer3.0.conv2": (1, 2),
        "layer3.1.conv1": (1, 2),
        "layer3.1.conv2": (1, 2),
        "layer4.0.conv1": (1, 2),
        "layer4.0.conv2": (1, 4),
        "layer4.1.conv1": (1, 4),
        "layer4.1.conv2": (1, 4),
    }


def test_mobilenet_dilations_are_those_of_the_source() -> None:
    network = model("deeplabv3_mobilenetv2").build(5).get_submodule("pretrained.net")
    depthwise = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert [m.dilation[0] for m in depthwise] == [1] * 7 + [2] * 6 + [2] + [4] * 3
    assert [i for i, m in enumerate(depthwise, 1) if m.stride == (2, 2)] == [2, 4]


def test_names_are_those_of_the_released_checkpoints() -> None:
    names = set(model("deeplabv3_resnet18").build(19).state_dict())
    assert {
        "pretrained.conv1.weight",
        "pretrained.bn3.running_mean",
        "pretrained.layer2.0.downsample.1.weight",
        "head.aspp.b0.0.weight",
        "head.aspp.b3.block.1.bias",
        "head.aspp.b4.gap.1.weight",
        "head.aspp.project.1.weight",
        "head.block.4.bias",
        "auxlayer.block.4.weight",
    } <= names
    assert {"head.psp.conv4.0.weight", "head.block.1.weight", "head.classifier.bias"} <= set(
        model("pspnet_resnet18").build(19).state_dict()
    )
    assert "pretrained.net.features.17.conv.7.weight" in model("deeplabv3_mobilenetv2").build(19).state_dict()


def test_the_pyramid_joins_pooled_views_behind_the_map() -> None:
    torch.manual_seed(0)
    network = model("pspnet_resnet18").build(5).eval()
    pyramid = network.get_submodule("head.psp")
    x = torch.randn(1, 512, 6, 12)
    with torch.no_grad():
        joined = pyramid(x)
        views: list[Tensor] = [x]
        for number, side in enumerate((1, 2, 3, 6), 1):
            view = network.get_submodule(f"head.psp.conv{number}")(F.adaptive_avg_pool2d(x, side))
            views.append(F.interpolate(view, (6, 12), mode="bilinear", align_corners=True))
    assert torch.equal(joined, torch.cat(views, dim=1))
