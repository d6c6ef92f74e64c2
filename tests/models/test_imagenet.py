"""The ImageNet networks: published sizes, and taps against the networks' own layers."""

import re

import pytest
import torch
from torch import nn

from benchmark.models.counting import macs, on_meta, parameters
from benchmark.models.registry import model
from benchmark.models.taps import Network

# Parameters of 1000 classes, multiply-adds at 224 x 224 in units of 1e6, and what enters pooling. Parameters and
# multiply-adds are those of torchvision's and timm's own tables, and of the papers of both ShuffleNets (137 M, 146 M
# with the layers that are no convolutions) and MobileNetV1 (569 M).
SIZES = {
    "resnet18": (11_689_512, 1814, (512, 7, 7)),
    "resnet34": (21_797_672, 3664, (512, 7, 7)),
    "resnet50": (25_557_032, 4089, (2048, 7, 7)),
    "mobilenetv1": (4_231_976, 569, (1024, 7, 7)),
    "mobilenet_v2": (3_504_872, 301, (1280, 7, 7)),
    "mobilenetv2_100": (3_504_872, 301, (1280, 7, 7)),
    "mobilenet_v3_large": (5_483_032, 217, (960, 7, 7)),
    "efficientnet_b0": (5_288_548, 386, (1280, 7, 7)),
    "shufflenet_v1": (1_865_728, 137, (960, 7, 7)),
    "shufflenet_v2": (2_278_604, 145, (1024, 7, 7)),
    "swin_tiny": (28_288_354, 4491, (768, 7, 7)),
    "swin_large": (196_532_476, 34476, (1536, 7, 7)),
}
SMALL = ["resnet18", "resnet50", "mobilenetv1", "mobilenet_v2", "mobilenetv2_100", "mobilenet_v3_large"]
SMALL += ["efficientnet_b0", "shufflenet_v1", "shufflenet_v2", "swin_tiny"]


@pytest.mark.parametrize("name", SIZES)
def test_network_has_the_published_size(name: str) -> None:
    expected, mega_macs, pooled = SIZES[name]
    network = on_meta(name, 1000)
    assert parameters(network) == expected
    assert round(macs(network.network, (1, 3, 224, 224)) / 1e6) == mega_macs
    shapes = network.shapes(torch.empty(2, 3, 224, 224, device="meta"))
    assert list(shapes) == list(network.adapter.taps)
    assert shapes["pre_pool"] == pooled
    assert shapes["embedding"] == pooled[:1]
    assert shapes["logits"] == (1000,)
    stages = [shapes[role] for role in shapes if role.startswith("stage") and "." not in role]
    sides = [56, 28, 14, 7][-len(stages) :]
    assert [shape[1:] for shape in stages] == [(side, side) for side in sides]


@pytest.mark.parametrize("name", SMALL)
def test_taps_lie_on_the_way_to_the_logits(name: str) -> None:
    torch.manual_seed(0)
    network = model(name).build(7).eval()
    adapter = model(name).adapter(network)
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        plain = network(images)
        tapped = Network(network, adapter, ["*"])(images)
        classifier = network.get_submodule(adapter.classifier)
        assert torch.allclose(classifier(tapped["embedding"]), plain, atol=1e-5)
    assert torch.equal(tapped["logits"], plain)
    if name != "efficientnet_b0":  # there the tap is before the last batch norm, as in the released code
        assert torch.allclose(tapped["pre_pool"].mean((2, 3)), tapped["embedding"], atol=1e-5)


def test_swins_own_files_are_converted_as_timm_converts_them() -> None:
    """They downsample at the end of a stage, and hold buffers that are computed here."""
    from timm.models.swin_transformer import checkpoint_filter_fn

    with torch.device("meta"):
        network = model("swin_tiny").build(1000)
    state = network.state_dict()
    theirs = {
        re.sub(r"layers\.([1-3])\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", k): k for k in state
    }
    published = {name.replace("head.fc.", "head."): state[ours] for name, ours in theirs.items()}
    buffers = dict.fromkeys(("layers.1.blocks.0.attn.relative_position_index", "layers.0.blocks.1.attn_mask"))
    converted = model("swin_tiny").convert(published | buffers)
    assert converted.keys() == checkpoint_filter_fn(published | buffers, network).keys() == state.keys()
    assert all(converted[name] is state[name] for name in state)
    assert model("swin_tiny").convert(state) is state


def test_the_two_lines_of_mobilenetv1_start_differently() -> None:
    spreads = {}
    for name in ("mobilenetv1", "mobilenetv1_mdistiller"):
        torch.manual_seed(0)
        network = model(name).build(10)
        last = network.get_submodule("model.13.3")  # 1 x 1, from 1024 to 1024 channels
        spreads[name] = float(last.weight.detach().std())
    assert spreads["mobilenetv1"] == pytest.approx((2 / 1024) ** 0.5, rel=0.01)
    assert spreads["mobilenetv1_mdistiller"] == pytest.approx((1 / 3 / 1024) ** 0.5, rel=0.01)
    assert model("mobilenetv1").revision == 2


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenetv1", "shufflenet_v1"])
def test_stages_are_their_preactivations_after_relu(name: str) -> None:
    torch.manual_seed(0)
    network = model(name).build(7).eval()
    with torch.no_grad():
        tapped = Network(network, model(name).adapter(network), ["stage*"])(torch.randn(1, 3, 64, 64))
    pairs = [(tapped[role], tapped[f"{role}.preact"]) for role in tapped if "." not in role]
    assert len(pairs) >= 3
    for stage, preact in pairs:
        assert (preact < 0).any()
        assert torch.equal(stage, preact.relu())


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenetv1", "mobilenetv2_100", "mobilenet_v2"])
def test_preactivations_name_a_batch_norm_of_their_width(name: str) -> None:
    network = on_meta(name, 10)
    shapes = network.shapes(torch.empty(2, 3, 224, 224, device="meta"))
    for role in (role for role in shapes if role.endswith(".preact")):
        norm = network.norm_of(role)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.num_features == shapes[role][0]
