"""Optimisers: every parameter once, decay where the recipe wants it, and the update of the recipe's formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from benchmark.models.registry import model
from benchmark.paper.recipe import Recipe
from benchmark.paper.recipe import recipe as load_recipe
from benchmark.train.engine.optimizer import make_optimizer, parameter_groups, set_learning_rate


def recipe(**settings: Any) -> Recipe:
    return Recipe(**({"epochs": 1, "batch": 8, "lr": 0.1, "weight_decay": 0.01} | settings))


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_a_shared_module_is_optimised_once() -> None:
    net = network()
    (group,) = parameter_groups(recipe(), [net, net[0]])
    assert len(group["params"]) == len(list(net.parameters()))


def test_biases_and_norms_are_decayed_unless_the_recipe_says_otherwise() -> None:
    net = network()
    matrices, vectors = parameter_groups(recipe(decay_vectors=False), [net])
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.01, 0.0)
    assert {p.ndim for p in matrices["params"]} == {2}
    assert {p.ndim for p in vectors["params"]} == {1}
    (together,) = parameter_groups(recipe(), [net])
    assert together["weight_decay"] == 0.01


@pytest.mark.parametrize("decay_vectors", [True, False])
def test_parameters_of_some_names_are_not_decayed(decay_vectors: bool) -> None:
    net = network()
    decayed, spared = parameter_groups(recipe(no_decay=("2.weight",), decay_vectors=decay_vectors), [net])
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)
    assert any(p is net[2].weight for p in spared["params"])
    assert any(p is net[0].weight for p in decayed["params"])
    assert any(p is net[0].bias for p in (decayed if decay_vectors else spared)["params"])


def test_b3_does_not_decay_the_tables_of_relative_positions() -> None:
    student = model("swin_tiny").on_meta(10)
    decayed, spared = parameter_groups(load_recipe("B3").settings, [student])
    tables = [p for name, p in student.named_parameters() if "relative_position_bias_table" in name]
    assert len(tables) == 12
    assert all(any(p is table for p in spared["params"]) for table in tables)
    assert not any(p is table for table in tables for p in decayed["params"])


def test_frozen_parameters_are_left_out() -> None:
    net = network()
    net[0].requires_grad_(False)
    (group,) = parameter_groups(recipe(), [net])
    assert len(group["params"]) == 4


def test_sgd_follows_its_formula() -> None:
    weight = nn.Parameter(torch.tensor([[1.0, -2.0]]))
    holder = nn.Module()
    holder.weight = weight
    optimizer = make_optimizer(recipe(momentum=0.9), [holder])
    value, velocity = weight.detach().clone(), torch.zeros(1, 2)
    for rate in (0.1, 0.1, 0.01):
        set_learning_rate(optimizer, rate)
        gradient = torch.tensor([[0.5, 1.0]])
        weight.grad = gradient.clone()
        optimizer.step()
        velocity = 0.9 * velocity + gradient + 0.01 * value
        value = value - rate * velocity
        assert torch.allclose(weight, value, atol=1e-7)


@pytest.mark.parametrize("name", ["sgd", "adamw", "rmsproptf"])
def test_every_optimiser_learns_and_resumes_to_the_same_bits(name: str) -> None:
    def begun() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        net = network()
        return net, make_optimizer(recipe(optimizer=name, lr=0.01), [net])

    def step(net: nn.Module, optimizer: torch.optim.Optimizer) -> float:
        inputs = torch.linspace(-1, 1, 24).reshape(8, 3)
        loss: torch.Tensor = net(inputs).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    with torch.random.fork_rng(devices=[]):
        net, optimizer = begun()
        losses = [step(net, optimizer) for _ in range(3)]
        saved = net.state_dict(), optimizer.state_dict()
        saved = torch.load(_bytes(saved), weights_only=True)
        losses += [step(net, optimizer) for _ in range(20)]
        other, other_optimizer = begun()
        other.load_state_dict(saved[0])
        other_optimizer.load_state_dict(saved[1])
        again = [step(other, other_optimizer) for _ in range(20)]
    assert losses[-1] < losses[0]
    assert losses[3:] == again


def _bytes(state: Any) -> Any:
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer
