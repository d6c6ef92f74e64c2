"""Folding a teacher's batch norms changes its speed and none of its taps."""

import pytest
import torch
from cifar_forwards import FORWARDS
from torch import Tensor, nn

from benchmark.models.fold import fold_batch_norms
from benchmark.models.registry import model
from benchmark.models.taps import Network, Tap

# Batch norms of each network, and those of them that directly follow a convolution whose output is no tap.
COUNTS = {
    "resnet8": (9, 9),
    "resnet20": (21, 21),
    "resnet56": (57, 57),
    "resnet32x4": (34, 34),  # one shortcut more: the first stage is wider than the stem
    "wrn_16_1": (13, 6),  # in a pre-activation block only the second norm follows a convolution
    "wrn_16_2": (13, 6),
    "wrn_40_2": (37, 18),
    "vgg8": (5, 5),
    "vgg13": (10, 10),
    "MobileNetV2": (53, 53),
    "ResNet50": (53, 53),
    "ShuffleV1": (49, 49),
    "ShuffleV2": (56, 56),
}


def randomise(network: nn.Module) -> nn.Module:
    """Give every batch norm statistics and an affine map that folding could get wrong."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def outputs(taps: dict[str, Tap]) -> list[str]:
    return [tap.module for tap in taps.values() if tap.at == "output"]


def distance(actual: Tensor, expected: Tensor) -> float:
    return float(((actual - expected).abs().max() / expected.abs().max()).detach())


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(2)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 8, 8)


@pytest.mark.parametrize("name", FORWARDS)
def test_a_folded_network_has_the_same_taps(name: str) -> None:
    network = randomise(model(name).build(100)).eval()
    adapter = model(name).adapter(network)
    folded = fold_batch_norms(network, keep=outputs(dict(adapter.taps)))
    if name in COUNTS:
        assert (norms(network), norms(network) - norms(folded)) == COUNTS[name]
    assert not folded.training
    pictures = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = Network(network, adapter, ["*"])(pictures)
        actual = Network(folded, model(name).adapter(folded), ["*"])(pictures)
    assert list(actual) == list(expected)
    assert {role: gap for role in expected if (gap := distance(actual[role], expected[role])) > 1e-4} == {}


def test_a_tapped_convolution_is_left_alone_and_another_is_not() -> None:
    network = randomise(model("wrn_16_2").build(10))
    assert norms(network) - norms(fold_batch_norms(network)) == 7
    assert norms(network) - norms(fold_batch_norms(network, keep=["conv1"])) == 6


def test_a_kept_container_protects_the_convolution_that_ends_it() -> None:
    network = randomise(nn.Sequential(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)))
    assert norms(fold_batch_norms(network, keep=["0"])) == 1
    assert norms(fold_batch_norms(network, keep=["0.0", "1"])) == 0
    inside = randomise(nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.ReLU()))
    assert norms(fold_batch_norms(inside, keep=["0"])) == 0


def test_the_original_stays_what_it_was() -> None:
    network = randomise(model("resnet8").build(10)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folded = fold_batch_norms(network)
    assert network.training and norms(network) == 9
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_tapped_network_is_folded_without_its_taps(images: Tensor) -> None:
    network = randomise(model("resnet8").build(10)).eval()
    bound = Network(network, model("resnet8").adapter(network), ["*"])
    folded = fold_batch_norms(network)
    assert norms(folded) == 0
    expected = bound(images)
    folded(10 * images)
    assert torch.equal(bound(images)["stage1"], expected["stage1"])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in folded.modules())


class Wired(nn.Module):
    """A convolution and a batch norm, wired in one of several ways."""

    def __init__(self, wiring: str) -> None:
        super().__init__()
        self.wiring = wiring
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.alias = self.norm if wiring == "second path" else None
        self.other = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        first: Tensor = self.conv(x)
        out: Tensor
        match self.wiring:
            case "plain":
                out = self.norm(first)
            case "convolution read twice":
                out = self.norm(first) + first
            case "convolution called twice":
                out = self.norm(first) + self.conv(-x)
            case "norm called twice":
                out = self.norm(first) + self.norm(self.other(x))
            case "weight read elsewhere":
                out = self.norm(first) + self.conv.weight.sum()
            case "second path":
                assert self.alias is not None
                out = self.alias(first)
            case "depends on the data":
                out = self.norm(first) if x.sum() > 0 else first
            case _:
                out = self.norm(first.relu())
        return out


@pytest.mark.parametrize(
    ("wiring", "gone"),
    [
        ("plain", 1),
        ("convolution read twice", 0),
        ("convolution called twice", 0),
        ("norm called twice", 0),
        ("weight read elsewhere", 0),
        ("second path", 0),
        ("depends on the data", 0),
        ("ReLU between", 0),
    ],
)
def test_only_a_pair_that_serves_nothing_else_is_folded(wiring: str, gone: int, images: Tensor) -> None:
    network = randomise(Wired(wiring)).eval()
    folded = fold_batch_norms(network)
    assert norms(network) - norms(folded) == gone
    assert folded is not network
    for sign in (1, -1):
        assert distance(folded(sign * images), network(sign * images)) < 1e-5


def test_a_batch_norm_without_running_statistics_stays(images: Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    folded = fold_batch_norms(network)
    assert norms(folded) == 1
    assert torch.equal(folded(images), network(images))


def test_a_batch_norm_without_an_affine_map_is_folded(images: Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False)).eval()
    nn.init.uniform_(network[1].running_var, 0.5, 2)
    folded = fold_batch_norms(network)
    assert norms(folded) == 0
    assert distance(folded(images), network(images)) < 1e-5


def test_a_subclass_that_does_more_is_not_folded(images: Tensor) -> None:
    class Rectified(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).relu()

    network = randomise(nn.Sequential(nn.Conv2d(3, 4, 3), Rectified(4))).eval()
    assert torch.equal(fold_batch_norms(network)(images), network(images))


def test_a_hooked_convolution_is_not_folded(images: Tensor) -> None:
    network = randomise(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))).eval()
    network[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    folded = fold_batch_norms(network)
    assert norms(folded) == 1
    assert torch.equal(folded(images), network(images))
