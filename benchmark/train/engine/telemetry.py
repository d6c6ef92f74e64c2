"""Telemetry of a run, beside its outcome: sampled once for each row of its curves.

Nothing here changes a number of the run: no weight, no buffer, no gradient that it sums, no state of a generator.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from benchmark.train import precision
from benchmark.train.engine.assembly import Assembly
from methods.base import Batch, Method


def sampled(parts: Assembly, batch: Batch, precision_name: str, number: int) -> dict[str, float]:
    """Pass a batch through the networks once more, eagerly, and return the gradients' and parameters' norms.

    Every rank takes part with its first shard, because norms and methods may exchange what they see; each gets the
    numbers of its own shard. `number` is the step's, which seeds what shards draw.
    """
    distiller, (shard, *_) = parts.distiller, parts.shards.cut(batch)
    with parts.undone(), parts.shards.around(distiller, 0, number):
        with precision.autocast(precision_name, shard.inputs.device):
            losses = distiller(shard, parts.taught(shard.inputs), parts.moment)
        found = gradients(losses.terms, distiller.student, parts.scaler)
    return found | norms(distiller.student, distiller.method)


def gradients(
    terms: Mapping[str, Tensor], student: nn.Module, scaler: torch.amp.GradScaler | None = None
) -> dict[str, float]:
    """Return the norm of each term's gradient on the student's parameters, 0 for a term that does not depend on them.

    The graph of the terms is kept, and no `grad` changes. `scaler` keeps small gradients from vanishing in fp16.
    """
    trained = _trained(student)
    found = {}
    for name, term in terms.items():
        each: tuple[Tensor | None, ...] = ()
        if term.requires_grad:
            scaled = term if scaler is None else scaler.scale(term)
            each = torch.autograd.grad(scaled, trained, retain_graph=True, allow_unused=True)
        norm = float(get_total_norm([gradient for gradient in each if gradient is not None]))
        found[f"gradient.{name}"] = norm if scaler is None else norm / scaler.get_scale()
    return found


def norms(student: nn.Module, method: Method) -> dict[str, float]:
    """Return the norm of the student's trained parameters and of the side networks', 0 for a method without any."""
    sides = list(dict.fromkeys(p for module in method.trainable_modules() for p in _trained(module)))
    with torch.no_grad():
        found = {"student": _trained(student), "side_networks": sides}
        return {f"norm.{name}": float(get_total_norm(tensors)) for name, tensors in found.items()}


def spreads(taught: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the standard deviation of each of the teacher's maps B,C,H,W, by role."""
    return {f"spread.{role}": float(tensor.float().std()) for role, tensor in taught.items() if tensor.ndim == 4}


def _trained(module: nn.Module) -> list[Tensor]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
