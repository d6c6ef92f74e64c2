"""Reference values, and networks that are nothing but tap shapes: what the golden tests of methods share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.models.taps import Adapter, Network, Tap
from methods.base import Batch, Losses, Method, Moment, Pair

TOLERANCE = 1e-9  # relative, in float64
Shapes = Mapping[str, tuple[int, ...]]


class Golden:
    """One file of reference values: tensors by name, and what its `meta` says."""

    def __init__(self, name: str) -> None:
        with np.load(Path(__file__).parents[1] / "golden" / f"{name}.npz") as arrays:
            self.meta: dict[str, Any] = json.loads(str(arrays["meta"]))
            self.tensors = {key: torch.from_numpy(arrays[key].copy()) for key in arrays.files if key != "meta"}

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key]

    def leaf(self, key: str) -> Tensor:
        """A copy that collects a gradient."""
        return self[key].clone().requires_grad_()

    def load_into(self, module: nn.Module, names: Mapping[str, str]) -> None:
        """Set parameters and buffers from `param__<reference name>`; `names` maps prefixes, ours to the reference's."""
        with torch.no_grad():
            for ours, theirs in self._tensors(module, names):
                if f"param__{theirs}" in self.tensors:
                    module.get_parameter(ours).copy_(self[f"param__{theirs}"])

    def check_gradients(self, module: nn.Module, names: Mapping[str, str], prefix: str = "grad__") -> None:
        """Every parameter's gradient, and every reference gradient used."""
        left = {key for key in self.tensors if key.startswith(prefix)}
        for ours, theirs in self._tensors(module, names):
            self.check(module.get_parameter(ours).grad, f"{prefix}{theirs}")
            left.remove(f"{prefix}{theirs}")
        assert not left, f"reference gradients never compared: {sorted(left)}"

    def check(self, found: Tensor | None, key: str) -> None:
        assert found is not None, f"no value for {key}"
        zero = key in self.meta.get("numerically_zero", ())
        expected = self[key]
        atol = 1e-12 if zero else TOLERANCE * float(expected.abs().max())
        torch.testing.assert_close(
            found.detach(), expected, rtol=0.0 if zero else TOLERANCE, atol=atol, msg=key_of(key)
        )

    @staticmethod
    def _tensors(module: nn.Module, names: Mapping[str, str]) -> list[tuple[str, str]]:
        found = []
        for ours, _ in module.named_parameters():
            prefix = max((p for p in names if ours.startswith(p)), key=len)
            found.append((ours, names[prefix] + ours.removeprefix(prefix)))
        return found


def key_of(key: str) -> Any:
    return lambda message: f"{key}: {message}"


def shapes_of(outputs: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {role: tuple(tensor.shape[1:]) for role, tensor in outputs.items()}


def shape_only(
    shapes: Shapes, classifier: nn.Linear | None = None, norms: Mapping[str, nn.Module] | None = None
) -> Network:
    """A network that has taps, a classifier and batch norms, and nothing to run."""
    module = nn.Module()
    module.fc = classifier or nn.Linear(1, 1)
    module.norms = nn.ModuleList((norms or {}).values())
    paths = {role: f"norms.{i}" for i, role in enumerate(norms or {})}
    taps = {role: Tap("fc", norm=paths.get(role)) for role in shapes}
    return Network(module, Adapter(taps, classifier="fc", forward=lambda network, inputs: {}), roles=())


def pair_of(student: Shapes, teacher: Shapes, classes: int = 20, dataset_size: int = 50, **of_teacher: Any) -> Pair:
    return Pair(shape_only(student), shape_only(teacher, **of_teacher), student, teacher, classes, dataset_size)


def batch_of(size: int, targets: Tensor | None = None, indices: Tensor | None = None) -> Batch:
    zeros = torch.zeros(size, dtype=torch.int64)
    return Batch(
        torch.zeros(size, 3, 2, 2), zeros if targets is None else targets, zeros if indices is None else indices
    )


def moment_at(epoch: int = 100) -> Moment:
    """Late enough for every warm-up to be over, unless said otherwise."""
    when = (torch.tensor(epoch), torch.tensor(epoch / 240), torch.Generator().manual_seed(0))
    return Moment(*when, step=torch.tensor(1000 * epoch))


def total(losses: Losses) -> Tensor:
    return torch.stack([term.double() for term in losses.terms.values()]).sum()


def built(method: Method, pair: Pair) -> Method:
    """Built, in float64 and train mode."""
    torch.manual_seed(0)
    method.build(pair)
    return method.double().train()
