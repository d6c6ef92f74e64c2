"""Every role of every CIFAR network against a forward pass written without modules."""

import pytest
import torch
from cifar_forwards import FORWARDS, Layers
from torch import Tensor, nn

from benchmark.models.registry import model
from benchmark.models.taps import Network


def randomised(name: str) -> nn.Module:
    """A network whose batch norms do something in eval mode too."""
    torch.manual_seed(1)
    network = model(name).build(100)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


def close(actual: Tensor, expected: Tensor) -> bool:
    return actual.shape == expected.shape and bool((actual - expected).abs().max() <= 1e-5 * expected.abs().max())


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", FORWARDS)
def test_taps_are_the_tensors_of_an_independent_forward_pass(name: str, training: bool) -> None:
    network = randomised(name).train(training)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = FORWARDS[name](Layers(network.state_dict(), training), images)
        plain = network(images)
        tapped = Network(network, model(name).adapter(network), ["*"])(images)
    assert tapped.keys() == expected.keys()
    assert [role for role in expected if not close(tapped[role], expected[role])] == []
    assert torch.equal(tapped["logits"], plain)


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_2", "vgg8", "MobileNetV2", "ShuffleV1", "ShuffleV2"])
def test_weights_get_the_gradients_of_an_independent_forward_pass(name: str) -> None:
    network = randomised(name)
    state = {key: tensor.detach().clone() for key, tensor in network.state_dict().items()}
    parameters = {key: state[key].requires_grad_() for key, _ in network.named_parameters()}
    images = torch.randn(4, 3, 32, 32)
    layers = Layers(state, training=True)
    layers.state = state  # the leaves themselves, not their copies
    expected = FORWARDS[name](layers, images)
    (expected["logits"].square().mean() + expected["stage2"].square().mean()).backward()
    tapped = Network(network, model(name).adapter(network), ["logits", "stage2"])(images)
    (tapped["logits"].square().mean() + tapped["stage2"].square().mean()).backward()
    scale = max(float(parameter.grad.abs().max()) for parameter in parameters.values() if parameter.grad is not None)
    for key, parameter in network.named_parameters():
        theirs = parameters[key].grad
        assert parameter.grad is not None and theirs is not None
        assert float((parameter.grad - theirs).abs().max()) <= 1e-4 * scale, key


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "vgg8", "MobileNetV2", "ShuffleV1", "ShuffleV2"])
def test_images_of_another_size_are_pooled_too(name: str) -> None:
    network = model(name).build(7).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, 64, 48)).shape == (1, 7)
