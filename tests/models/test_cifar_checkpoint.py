"""Published checkpoints of the CIFAR networks load into this project's."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmark.models.cifar.resnet import convert, fold_first_bias
from benchmark.models.registry import model

SHARED = Path(os.environ.get("BENCHMARK_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
RESNET56 = SHARED / "checkpoints" / "resnet56_cifar100_66.41.pth"


def with_first_bias(state: dict[str, Tensor], bias: Tensor) -> nn.Module:
    """A resnet8 whose first convolution has a bias, as in some published checkpoints."""
    network = model("resnet8").build(10)
    network.conv1 = nn.Conv2d(3, 16, 3, padding=1)
    network.load_state_dict({**state, "conv1.bias": bias})
    return network


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_a_first_bias_is_folded_without_changing_the_network(training: bool) -> None:
    torch.manual_seed(0)
    plain = model("resnet8").build(10)
    biased = with_first_bias(plain.state_dict(), torch.randn(16))
    published = {name: tensor.clone() for name, tensor in biased.state_dict().items()}
    plain.load_state_dict(convert(published), strict=True)
    assert "conv1.bias" in published
    assert torch.equal(published["bn1.running_mean"], biased.state_dict()["bn1.running_mean"])
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(plain.train(training)(images), biased.train(training)(images))
    # After a step in training the running statistics still describe the same map.
    folded = fold_first_bias(biased.state_dict())
    torch.testing.assert_close(plain.state_dict()["bn1.running_mean"], folded["bn1.running_mean"])


def test_a_state_without_the_bias_passes_unchanged() -> None:
    state = model("resnet8").build(10).state_dict()
    converted = convert(state)
    assert list(converted) == list(state)
    assert all(torch.equal(converted[name], tensor) for name, tensor in state.items())


@pytest.mark.skipif(not RESNET56.is_file(), reason=f"no {RESNET56}; set BENCHMARK_SHARED_DATA to the folder above it")
def test_the_published_resnet56_loads_strictly() -> None:
    published = torch.load(RESNET56, map_location="cpu", weights_only=True)
    network = model("resnet56").build(100)
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "conv1\.bias"'):
        network.load_state_dict(published)
    network.load_state_dict(convert(published), strict=True)
    assert torch.equal(network.get_parameter("fc.weight"), published["fc.weight"])
