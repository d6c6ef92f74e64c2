"""Counting conventions on layers whose cost is known by hand, and methods' own costs."""

import pytest
import torch
from torch import nn

from benchmark.errors import UsageError
from benchmark.models.counting import CONVENTIONS, cirkd_macs, flops, fvcore_macs, macs, parameters
from benchmark.models.registry import model
from benchmark.paper.datasets import counted_on
from benchmark.verify.method_cost import build_on_meta, method_cost, pair_on_meta
from methods.spec import MethodSpec


def test_a_plain_convolution_counts_the_same_everywhere() -> None:
    network = nn.Conv2d(4, 8, 3, stride=2, padding=1)
    by_hand = 4 * 8 * 9 * 5 * 6
    assert [macs(network, (1, 4, 10, 12)), cirkd_macs(network, (1, 4, 10, 12))] == [by_hand, by_hand]
    assert flops(network, (1, 4, 10, 12)) == 2 * by_hand
    assert parameters(network) == 4 * 8 * 9 + 8


def test_cirkd_overcounts_a_dilated_convolution() -> None:
    network = nn.Conv2d(4, 8, 3, padding=4, dilation=4)
    assert macs(network, (1, 4, 10, 10)) == 4 * 8 * 9 * 10 * 10
    assert cirkd_macs(network, (1, 4, 10, 10)) == 4 * 8 * 9 * 16 * 16  # 10 + 2 * 4 - 3 + 1


def test_cirkd_counts_a_grouped_convolution_by_its_weights() -> None:
    network = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    assert cirkd_macs(network, (1, 8, 5, 5)) == macs(network, (1, 8, 5, 5)) == 8 * 9 * 25


def test_cirkd_counts_a_linear_layer_once_however_many_positions() -> None:
    network = nn.Linear(6, 7)
    assert macs(network, (1, 9, 6)) == 9 * 6 * 7
    assert cirkd_macs(network, (1, 9, 6)) == 6 * 7


def test_counting_leaves_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    macs(network, (1, 3, 8, 8))
    cirkd_macs(network, (1, 3, 8, 8))
    assert network.training
    assert {p.device.type for p in network.parameters()} == {"cpu"}
    assert not network[0]._forward_pre_hooks


@pytest.mark.parametrize("name", ["resnet8", "shufflenet_v1", "swin_tiny"])
def test_a_second_counter_agrees(name: str) -> None:
    pytest.importorskip("fvcore.common")
    shape = (1, *counted_on("cifar100" if name == "resnet8" else "imagenet").counted)
    network = model(name).build(10)
    assert fvcore_macs(network, shape) == macs(network, shape)


def test_every_convention_says_where_it_is_right_and_wrong() -> None:
    assert set(CONVENTIONS) == {"macs", "flops", "cirkd"}
    assert all(convention.right and convention.wrong and convention.counts for convention in CONVENTIONS.values())


def test_an_unknown_data_set_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="imagenet"):
        counted_on("imagnet")


def test_a_methods_cost_is_that_of_its_side_networks() -> None:
    pair = pair_on_meta("resnet18", "resnet34", "imagenet")
    fitnet = method_cost(build_on_meta(MethodSpec.parse("mse").make(), pair), pair, 4)
    by_hand = 512 * 512 * 7 * 7
    assert (fitnet.parameters, fitnet.forward, fitnet.backward) == (512 * 512 + 512, by_hand, 2 * by_hand)
    kd = method_cost(build_on_meta(MethodSpec.parse("kd").make(), pair), pair, 4)
    assert (kd.parameters, kd.forward, kd.backward) == (0, 0, 0)


def test_diffkd_costs_what_its_modules_do_at_five_steps() -> None:
    pair = pair_on_meta("resnet18", "resnet34", "imagenet")
    spec = MethodSpec.parse({"diffkd": {"latent": 1024}})
    found = method_cost(build_on_meta(spec.make(), pair), pair, 32)
    assert round(found.forward / 1e6) == 1214
    assert round(found.parameters / 1e6) == 31


def test_nothing_is_allocated_for_a_large_memory() -> None:
    pair = pair_on_meta("resnet18", "resnet34", "imagenet")
    crd = build_on_meta(MethodSpec.parse("crd").make(), pair)
    assert crd.get_buffer("memory_student").device.type == "meta"
    assert crd.get_buffer("memory_student").shape == torch.Size([1_281_167, 128])
