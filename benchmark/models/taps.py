"""Taps: roles, bound once for each network family to a module's output, its input, or its n-th call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from benchmark.errors import CannotServe, nearest

Result = TypeVar("Result")


@dataclass(frozen=True)
class Tap:
    """The place in a forward pass where a role's tensor appears."""

    module: str  # dotted path inside the network
    at: Literal["output", "input"] = "output"
    call: int = 0  # which call of the module, where a forward pass calls it more than once
    clone: bool = False  # an in-place operation follows: keep a copy
    channels_last: bool = False  # the tensor is B,H,W,C and is permuted to B,C,H,W
    norm: str | None = None  # the batch norm whose output a pre-activation is (OFD reads its margins)
    item: tuple[int, ...] = ()  # where in nested outputs, or which of several inputs, the tensor is


@dataclass(frozen=True)
class Adapter:
    """The roles of one family's networks. `forward` replaces the hooks if hooks cannot reach the tensors."""

    taps: Mapping[str, Tap]
    classifier: str = ""  # dotted path of the last linear layer
    forward: Callable[[nn.Module, Tensor], Mapping[str, Tensor]] | None = None


def resolve_roles(asked: Iterable[str], available: Iterable[str]) -> tuple[str, ...]:
    """Return the roles that match names and patterns, in the network's order. Raise `CannotServe` for a missing one."""
    names = tuple(available)
    found: list[str] = []
    for pattern in asked:
        # A plain name is not matched: compiled steps come by here, and fnmatch's cache cannot be compiled.
        matched = [pattern] if pattern in names else [name for name in names if fnmatchcase(name, pattern)]
        if not matched:
            raise CannotServe(f"the network has no tap {pattern!r}; {nearest(pattern, names)}")
        found += [name for name in matched if name not in found]
    return tuple(sorted(found, key=names.index))


class Network(nn.Module):
    """A network whose forward returns the asked-for roles; `network` stays the plain module that is exported."""

    def __init__(self, network: nn.Module, adapter: Adapter, roles: Iterable[str] = ("logits",)) -> None:
        super().__init__()
        self.network = network
        self.adapter = adapter
        self.roles = resolve_roles(roles, adapter.taps)
        self._seen: dict[str, Tensor] | None = None  # while a call is observed
        self._calls: dict[tuple[str, str], int] = {}
        self._handles: list[RemovableHandle] = []
        self.bind(self.roles)

    def bind(self, roles: Iterable[str]) -> None:
        """Expose these roles, and only these, from now on."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.roles = resolve_roles(roles, self.adapter.taps)
        if self.adapter.forward is not None:
            return
        modules = dict(self.network.named_modules())
        by_place: dict[tuple[str, str], list[str]] = {}
        for role in self.roles:
            tap = self.adapter.taps[role]
            by_place.setdefault((tap.module, tap.at), []).append(role)
        for (path, at), tapped in by_place.items():
            # An input is read before its module runs, for an in-place module overwrites it.
            # A partial of a bound method, unlike a closure, is copied with its network: a copy has its own taps.
            module, hook = modules[path], partial(self._record, (path, at), tuple(tapped))
            register = module.register_forward_hook if at == "output" else module.register_forward_pre_hook
            self._handles.append(register(hook))

    def _record(
        self, place: tuple[str, str], roles: tuple[str, ...], module: nn.Module, inputs: object, output: object = None
    ) -> None:
        if self._seen is None:
            return
        call = self._calls.get(place, 0)
        self._calls[place] = call + 1
        for role in roles:
            tap = self.adapter.taps[role]
            if tap.call == call:
                tensor = _item(output, tap.item) if tap.at == "output" else _item(inputs, tap.item or (0,))
                tensor = tensor.permute(0, 3, 1, 2) if tap.channels_last else tensor
                self._seen[role] = tensor.clone() if tap.clone else tensor

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return the tensors by role, B,C,H,W or B,C."""
        if self.adapter.forward is not None:
            outputs = self.adapter.forward(self.network, inputs)
            return {role: outputs[role] for role in self.roles}
        return self.observed(lambda: self.network(inputs))[1]

    def observed(self, call: Callable[[], Result]) -> tuple[Result, dict[str, Tensor]]:
        """Run a call that runs the network; return its result and the tensors of the bound roles."""
        self._seen, self._calls = {}, {}
        try:
            result = call()
            seen = self._seen
        finally:
            self._seen = None
        if absent := [role for role in self.roles if role not in seen]:
            raise CannotServe(f"{', '.join(absent)}: no such tensor in this pass through the network")
        return result, {role: seen[role] for role in self.roles}

    def shapes(self, inputs: Tensor) -> dict[str, tuple[int, ...]]:
        """Return shapes by role, without the batch dimension. The forward pass changes nothing in the network."""
        training = self.network.training
        self.network.eval()
        with torch.no_grad():
            outputs = self(inputs)
        self.network.train(training)
        return {role: tuple(tensor.shape[1:]) for role, tensor in outputs.items()}

    @property
    def classifier(self) -> nn.Module:
        """Return the last linear layer."""
        return self.network.get_submodule(self.adapter.classifier)

    def norm_of(self, role: str) -> nn.Module | None:
        """Return the batch norm that makes this pre-activation, or None if the family names none."""
        path = self.adapter.taps[role].norm
        return self.network.get_submodule(path) if path else None


def _item(value: object, path: tuple[int, ...]) -> Tensor:
    for index in path:
        assert isinstance(value, tuple | list)
        value = value[index]
    assert isinstance(value, Tensor)
    return value


def untap(network: nn.Module) -> None:
    """Remove every tap from a plain module: a copy of a tapped module carries copies of its taps."""
    for module in network.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key, hook in list(hooks.items()):
                if isinstance(hook, partial) and getattr(hook.func, "__func__", None) is Network._record:
                    del hooks[key]
