"""Any network of torchvision or timm: taps by shape, and by hand."""

from __future__ import annotations

import pytest
import torch

from benchmark.errors import UsageError
from benchmark.models.registry import model
from benchmark.models.taps import Network

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def network_of(name: str, classes: int = 6) -> Network:
    entry = model(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = entry.build(classes)
    adapter = entry.adapter(plain)
    return Network(plain.eval(), adapter, tuple(adapter.taps))


def places(network: Network) -> dict[str, str]:
    return {role: tap.module for role, tap in network.adapter.taps.items()}


@pytest.mark.parametrize(
    ("name", "stages", "embedding"),
    [
        ("timm:resnet10t", ["layer1", "layer2", "layer3", "layer4"], "fc"),
        ("timm:convnext_atto", ["stages.0", "stages.1", "stages.2", "norm_pre"], "head.fc"),
        (
            "torchvision:densenet121",
            ["features.denseblock1", "features.denseblock2", "features.denseblock3", "features"],
            "classifier",
        ),
        (
            "torchvision:mobilenet_v3_small",
            ["features.1", "features.3", "features.8", "features"],
            "classifier.3",
        ),
    ],
)
def test_stages_are_where_resolutions_change(name: str, stages: list[str], embedding: str) -> None:
    network = network_of(name)
    found = places(network)
    assert [found[f"stage{number}"] for number in range(1, 5)] == stages
    assert "stage5" not in found
    assert (found["pre_pool"], found["embedding"]) == (stages[-1], embedding)


def test_found_taps_give_what_the_network_computes() -> None:
    network = network_of("timm:resnet10t")
    with torch.no_grad():
        outputs = network(IMAGES)
        plain = network.network
        features = plain.forward_features(IMAGES)  # type: ignore[operator]
        torch.testing.assert_close(outputs["pre_pool"], features)
        torch.testing.assert_close(outputs["embedding"], features.mean(dim=(2, 3)))
        torch.testing.assert_close(outputs["logits"], plain(IMAGES))


def test_maps_with_channels_last_are_found_and_permuted() -> None:
    network = network_of("timm:swin_tiny_patch4_window7_224")
    taps = network.adapter.taps
    assert [taps[f"stage{number}"].module for number in range(1, 5)] == ["layers.0", "layers.1", "layers.2", "norm"]
    assert taps["pre_pool"].channels_last
    shapes = network.shapes(torch.zeros(1, 3, 224, 224))
    assert shapes["stage2"] == (192, 28, 28)
    assert shapes["pre_pool"] == (768, 7, 7)


def test_what_is_overwritten_in_place_is_copied() -> None:
    """DenseNet rectifies its last map in place, after the module that gives it."""
    network = network_of("torchvision:densenet121")
    assert network.adapter.taps["pre_pool"].clone
    with torch.no_grad():
        assert float(network(IMAGES)["pre_pool"].min()) < 0


def test_tokens_are_no_maps() -> None:
    entry = model("timm:vit_tiny_patch16_224")
    taps = entry.adapter(entry.build(5)).taps
    assert set(taps) == {"stem", "embedding", "logits"}


def test_taps_by_hand_win() -> None:
    network = network_of("timm:resnet10t[stage3=layer2,neck=fc:input]")
    assert places(network)["stage3"] == "layer2"
    with torch.no_grad():
        outputs = network(IMAGES)
    assert torch.equal(outputs["stage3"], outputs["stage2"])
    assert torch.equal(outputs["neck"], outputs["embedding"])
    own = network_of("resnet8[stage1=conv1]")
    assert places(own)["stage1"] == "conv1"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm:resnet10x", "timm has no network 'resnet10x'"),
        ("torchvision:resnet19", "torchvision has no classification network 'resnet19'"),
        ("timm:resnet10t[stage3=layer9]", "has no module 'layer9' for stage3"),
        ("timm:resnet10t[stage3]", "cannot read the taps"),
        ("resnet9", "unknown model 'resnet9'"),
    ],
)
def test_wrong_names_are_told_with_the_nearest(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as error:
        network_of(name)
    assert error.value.fix


@pytest.mark.parametrize(("name", "has_a_place"), [("torchvision:resnet18", False), ("timm:resnet10t", True)])
def test_a_recipes_dropout_reaches_a_network_or_is_said_to_have_no_place_in_it(name: str, has_a_place: bool) -> None:
    entry = model(name)
    networks = [entry.build(6, dropout=dropout) for dropout in (0.0, 0.2)]
    rates = [{getattr(network, "drop_rate", 0.0), *_dropouts(network)} for network in networks]
    assert (rates[0] != rates[1]) == has_a_place == entry.takes("dropout")


def _dropouts(network: torch.nn.Module) -> list[float]:
    return [module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)]
