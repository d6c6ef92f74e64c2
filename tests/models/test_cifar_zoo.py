"""The CIFAR-100 networks against the sizes that RepDistiller's models have."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmark.models.registry import model, models
from benchmark.models.taps import Network

ROOT = Path(__file__).resolve().parents[2]

# Parameters, millions of multiply-adds (convolutions and linear layers), maps: stem and stages, what enters pooling.
SMALL = "16x32x32 16x32x32 32x16x16 64x8x8"
SIZES = {
    "resnet8": (83_892, 12.5, SMALL, "64x8x8"),
    "resnet14": (181_108, 26.7, SMALL, "64x8x8"),
    "resnet20": (278_324, 40.8, SMALL, "64x8x8"),
    "resnet32": (472_756, 69.1, SMALL, "64x8x8"),
    "resnet44": (667_188, 97.4, SMALL, "64x8x8"),
    "resnet56": (861_620, 125.8, SMALL, "64x8x8"),
    "resnet110": (1_736_564, 253.2, SMALL, "64x8x8"),
    "resnet8x4": (1_233_540, 177.1, "32x32x32 64x32x32 128x16x16 256x8x8", "256x8x8"),
    "resnet32x4": (7_433_860, 1083.0, "32x32x32 64x32x32 128x16x16 256x8x8", "256x8x8"),
    "wrn_16_1": (180_916, 26.7, SMALL, "64x8x8"),
    "wrn_16_2": (703_284, 101.1, "16x32x32 32x32x32 64x16x16 128x8x8", "128x8x8"),
    "wrn_40_1": (569_780, 83.3, SMALL, "64x8x8"),
    "wrn_40_2": (2_255_156, 327.6, "16x32x32 32x32x32 64x16x16 128x8x8", "128x8x8"),
    "vgg8": (3_965_028, 96.2, "64x32x32 128x16x16 256x8x8 512x4x4 512x4x4", "512x4x4"),
    "vgg13": (9_462_180, 284.9, "64x32x32 128x16x16 256x8x8 512x4x4 512x4x4", "512x4x4"),
    "MobileNetV2": (812_836, 6.5, "16x16x16 12x16x16 16x8x8 48x4x4 160x2x2", "1280x2x2"),
    "ResNet50": (23_705_252, 1298.0, "64x32x32 256x32x32 512x16x16 1024x8x8 2048x4x4", "2048x4x4"),
    "ShuffleV1": (949_258, 38.7, "24x32x32 240x16x16 480x8x8 960x4x4", "960x4x4"),
    "ShuffleV2": (1_355_528, 44.5, "24x32x32 116x16x16 232x8x8 464x4x4", "1024x4x4"),
}

# The batch norms whose statistics give OFD its margins, as mdistiller's networks return them.
NORMS = {
    "resnet8": ["layer1.0.bn2", "layer2.0.bn2", "layer3.0.bn2"],
    "resnet32x4": ["layer1.4.bn2", "layer2.4.bn2", "layer3.4.bn2"],
    "wrn_40_2": ["block2.layer.0.bn1", "block3.layer.0.bn1", "bn1"],
    "vgg8": ["block1.1", "block2.1", "block3.1", "block4.1"],
    "vgg13": ["block1.4", "block2.4", "block3.4", "block4.4"],
    "MobileNetV2": ["blocks.1.1.conv.7", "blocks.2.2.conv.7", "blocks.4.2.conv.7", "blocks.6.0.conv.7"],
    "ResNet50": ["layer1.2.bn3", "layer2.3.bn3", "layer3.5.bn3", "layer4.2.bn3"],
    "ShuffleV1": [None, None, None],
    "ShuffleV2": [None, None, None],
}


def on_meta(name: str) -> Network:
    with torch.device("meta"):
        network = model(name).build(100)
    return Network(network, model(name).adapter(network), ["*"])


def maps(text: str) -> list[tuple[int, ...]]:
    return [tuple(int(side) for side in shape.split("x")) for shape in text.split()]


@pytest.mark.parametrize("name", SIZES)
def test_network_has_the_published_size(name: str) -> None:
    parameters, mega_macs, feature_maps, pooled = SIZES[name]
    network = on_meta(name)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    images = torch.empty(1, 3, 32, 32, device="meta")
    with FlopCounterMode(display=False) as counter:
        shapes = network.shapes(images)
    assert f"{counter.get_total_flops() / 2e6:.1f}" == f"{mega_macs:.1f}"
    stem, *stages = maps(feature_maps)
    assert shapes["stem"] == stem
    assert [shapes[f"stage{number}"] for number in range(1, len(stages) + 1)] == stages
    assert [shapes[f"stage{number}.preact"] for number in range(1, len(stages) + 1)] == stages
    assert shapes["pre_pool"] == maps(pooled)[0]
    assert shapes["embedding"] == shapes["pre_pool"][:1]
    assert shapes["logits"] == (100,)


@pytest.mark.parametrize("name", SIZES)
def test_roles_come_in_the_order_of_the_forward_pass(name: str) -> None:
    stages = len(maps(SIZES[name][2])) - 1
    both = [role for number in range(1, stages + 1) for role in (f"stage{number}", f"stage{number}.preact")]
    assert on_meta(name).roles == ("stem", *both, "pre_pool", "embedding", "logits")


@pytest.mark.parametrize("name", SIZES)
def test_classifier_is_the_layer_that_makes_the_logits(name: str) -> None:
    classifier = on_meta(name).classifier
    assert isinstance(classifier, nn.Linear)
    assert (classifier.in_features, classifier.out_features) == (maps(SIZES[name][3])[0][0], 100)


@pytest.mark.parametrize("name", NORMS)
def test_preactivations_name_the_batch_norm_of_their_margins(name: str) -> None:
    network = on_meta(name)
    roles = [role for role in network.roles if role.endswith(".preact")]
    assert [network.adapter.taps[role].norm for role in roles] == NORMS[name]
    for role, path in zip(roles, NORMS[name], strict=True):
        norm = network.norm_of(role)
        assert norm is None if path is None else isinstance(norm, nn.BatchNorm2d)


def test_the_registry_lists_every_network_once_and_builds_other_class_counts() -> None:
    assert set(SIZES) <= set(models())
    with torch.device("meta"):
        assert model("vgg8").build(10)(torch.empty(1, 3, 32, 32)).shape == (1, 10)


def test_networks_are_listed_without_torch() -> None:
    program = (
        "import sys; from benchmark.models.registry import models; print(sorted(models()), 'torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BENCHMARK_EXTRA": ""}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    names, _, has_torch = done.stdout.strip().rpartition(" ")
    assert set(SIZES) <= set(ast.literal_eval(names))
    assert has_torch == "False"


def spread(weights: torch.Tensor) -> float:
    """Standard deviation over that of a normal initialisation with variance 2 / (k k channels_out)."""
    return float(weights.std() / (2 / (weights[0, 0].numel() * weights.shape[0])) ** 0.5)


@pytest.mark.parametrize("name", ["resnet20", "wrn_16_2", "vgg8", "MobileNetV2", "ResNet50"])
def test_convolutions_start_normal_with_the_fan_that_leaves_them(name: str) -> None:
    torch.manual_seed(0)
    network = model(name).build(100)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            tolerance = 4 / module.weight.numel() ** 0.5  # four standard errors of a standard deviation and more
            assert spread(module.weight.detach()) == pytest.approx(1, abs=tolerance)
            assert module.bias is None or not module.bias.any()


@pytest.mark.parametrize("name", ["ShuffleV1", "ShuffleV2"])
def test_shufflenets_start_as_torch_does(name: str) -> None:
    network = model(name).build(100)
    weights = network.get_submodule("conv1").weight
    assert isinstance(weights, nn.Parameter)
    assert weights.abs().max() <= 1 / 3**0.5  # uniform within one over the square root of three inputs


def test_linear_layers_start_as_their_source_sets_them() -> None:
    torch.manual_seed(0)
    wide, vgg, mobile, plain = (model(name).build(100) for name in ("wrn_16_2", "vgg8", "MobileNetV2", "resnet20"))
    assert not wide.get_parameter("fc.bias").any()
    assert wide.get_parameter("fc.weight").abs().max() <= 128**-0.5
    assert not vgg.get_parameter("classifier.bias").any()
    assert float(vgg.get_parameter("classifier.weight").detach().std()) == pytest.approx(0.01, rel=0.05)
    assert float(mobile.get_parameter("classifier.0.weight").detach().std()) == pytest.approx(0.01, rel=0.05)
    assert plain.get_parameter("fc.bias").any()
