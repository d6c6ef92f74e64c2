"""How roles are bound, on networks small enough to follow by hand."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from benchmark.errors import CannotServe
from benchmark.models.taps import Adapter, Network, Tap, resolve_roles, untap


class Small(nn.Module):
    """A linear map, then a ReLU that is called twice around another."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.relu = nn.ReLU(inplace=inplace)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first(x))
        logits: Tensor = self.last(self.relu(x - 0.1))
        return logits


def tapped(network: nn.Module, taps: dict[str, Tap], *roles: str) -> Network:
    return Network(network, Adapter(taps, classifier="last"), roles or ["*"])


@pytest.fixture
def x() -> Tensor:
    return torch.linspace(-1, 1, 8).reshape(2, 4)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def hooks(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules())


def test_outputs_and_inputs_of_modules_are_seen(x: Tensor) -> None:
    network = Small()
    seen = tapped(network, {"stem": Tap("relu"), "preact": Tap("relu", at="input"), "logits": Tap("last")})(x)
    assert torch.equal(seen["preact"], network.first(x))
    assert torch.equal(seen["stem"], network.first(x).relu())
    assert torch.equal(seen["logits"], network(x))


def test_a_later_call_of_a_module_is_told_from_the_first(x: Tensor) -> None:
    network = Small()
    taps = {
        "first": Tap("relu"),
        "second": Tap("relu", call=1),
        "second.preact": Tap("relu", at="input", call=1),
    }
    bound = tapped(network, taps)
    for _ in range(2):  # calls are counted anew in every forward pass
        seen = bound(x)
        first = network.first(x).relu()
        assert torch.equal(seen["first"], first)
        assert torch.equal(seen["second.preact"], first - 0.1)
        assert torch.equal(seen["second"], (first - 0.1).relu())


def test_a_clone_survives_the_in_place_operation_behind_it(x: Tensor) -> None:
    network = Small(inplace=True)
    seen = tapped(network, {"kept": Tap("first", clone=True), "lost": Tap("first")})(x)
    before = nn.functional.linear(x, network.first.weight, network.first.bias)
    assert (before < 0).any()
    assert torch.equal(seen["kept"], before)
    assert torch.equal(seen["lost"], before.relu())
    seen["kept"].sum().backward()
    assert network.first.weight.grad is not None


def test_a_channels_last_tap_is_turned_to_channels_first() -> None:
    network = nn.Sequential(nn.LayerNorm(5))
    maps = torch.randn(2, 3, 4, 5)
    seen = Network(network, Adapter({"stage1": Tap("0", channels_last=True)}), ["stage1"])(maps)
    assert torch.equal(seen["stage1"], network(maps).permute(0, 3, 1, 2))


def test_only_the_bound_roles_are_returned_and_hooked(x: Tensor) -> None:
    bound = tapped(Small(), {"stem": Tap("first"), "embedding": Tap("relu"), "logits": Tap("last")}, "logits")
    assert list(bound(x)) == ["logits"]
    bound.bind(["logits", "stem"])
    assert list(bound(x)) == ["stem", "logits"]
    assert hooks(bound.network) == 2
    bound.bind(["embedding"])
    assert list(bound(x)) == ["embedding"]
    assert hooks(bound.network) == 1


def test_patterns_take_the_order_of_the_network_and_no_role_twice() -> None:
    names = ("stem", "stage1", "stage1.preact", "stage2", "stage2.preact", "logits")
    assert resolve_roles(["logits", "stage[0-9]", "stage2"], names) == ("stage1", "stage2", "logits")
    assert resolve_roles(["stage[0-9].preact"], names) == ("stage1.preact", "stage2.preact")


def test_an_unknown_role_names_the_nearest() -> None:
    bound = tapped(Small(), {"stem": Tap("first"), "logits": Tap("last")})
    with pytest.raises(CannotServe, match=r"no tap 'logit'; did you mean 'logits'\? valid: logits, stem"):
        bound.bind(["logit"])


def test_an_adapter_may_run_the_forward_pass_itself(x: Tensor) -> None:
    def forward(network: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
        return {"stem": 2 * inputs, "logits": network(inputs)}

    network = Small()
    bound = Network(network, Adapter({"stem": Tap(""), "logits": Tap("last")}, forward=forward), ["stem"])
    seen = bound(x)
    assert list(seen) == ["stem"]
    assert torch.equal(seen["stem"], 2 * x)
    assert hooks(network) == 0


def test_shapes_leave_no_trace() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    bound = Network(network, Adapter({"stem": Tap("1")}), ["stem"]).train()
    assert bound.shapes(torch.randn(2, 3, 5, 6)) == {"stem": (4, 3, 4)}
    assert network[1].num_batches_tracked == 0
    assert bound.network.training


def test_a_copy_has_taps_of_its_own(x: Tensor) -> None:
    original = tapped(Small(), {"stem": Tap("first"), "logits": Tap("last")})
    twin = copy.deepcopy(original)
    nn.init.zeros_(twin.network.get_parameter("last.weight"))
    before, theirs = original(x), twin(x)
    assert torch.equal(before["stem"], theirs["stem"])
    assert not torch.equal(before["logits"], theirs["logits"])
    twin.bind(["logits"])
    assert list(original(x)) == ["stem", "logits"]


def test_a_pickled_network_keeps_its_taps(x: Tensor) -> None:
    original = tapped(Small(), {"stem": Tap("first"), "logits": Tap("last")})
    restored = pickle.loads(pickle.dumps(original))
    assert torch.equal(restored(x)["stem"], original(x)["stem"])


def test_untap_removes_taps_and_nothing_else(x: Tensor) -> None:
    bound = tapped(Small(), {"stem": Tap("first"), "preact": Tap("relu", at="input"), "logits": Tap("last")})
    calls: list[int] = []
    bound.network.get_submodule("first").register_forward_hook(lambda *_: calls.append(1))
    plain = copy.deepcopy(bound.network)
    untap(plain)
    assert hooks(plain) == 1
    assert hooks(bound.network) == 4
    plain(x)
    assert calls == [1]


def test_the_state_dict_is_that_of_the_plain_network_under_one_name() -> None:
    network = Small()
    bound = tapped(network, {"logits": Tap("last")})
    assert set(bound.state_dict()) == {f"network.{name}" for name in network.state_dict()}
    assert bound.classifier is network.last


def test_a_compiled_network_has_the_same_taps(x: Tensor) -> None:
    bound = tapped(Small(), {"stem": Tap("relu"), "second": Tap("relu", call=1), "logits": Tap("last")})
    plain = bound(x)
    compiled = torch.compile(bound, backend="eager", fullgraph=True)(x)
    assert all(torch.equal(compiled[role], plain[role]) for role in plain)
