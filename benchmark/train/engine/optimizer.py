"""The optimiser of a recipe over the student and the method's side networks."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn

from benchmark.paper.recipe import Recipe


def parameter_groups(recipe: Recipe, modules: Iterable[nn.Module]) -> list[dict[str, object]]:
    """Return parameter groups with every trainable parameter once.

    Biases, norms and parameters of some names have no decay if the recipe says so.
    """
    parameters = {p: name for module in modules for name, p in module.named_parameters() if p.requires_grad}
    spared = [
        p
        for p, name in parameters.items()
        if (p.ndim <= 1 and not recipe.decay_vectors) or any(part in name for part in recipe.no_decay)
    ]
    if recipe.decay_vectors and not recipe.no_decay:
        return [{"params": list(parameters), "weight_decay": recipe.weight_decay}]
    chosen = set(spared)
    decayed = [p for p in parameters if p not in chosen]
    return [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": spared, "weight_decay": 0.0}]


def make_optimizer(recipe: Recipe, modules: Collection[nn.Module]) -> torch.optim.Optimizer:
    """Build the recipe's optimiser: SGD, AdamW or timm's RMSProp with TensorFlow's epsilon."""
    groups = parameter_groups(recipe, modules)
    match recipe.optimizer:
        case "sgd":
            return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=True)
        case "adamw":
            on_gpu = any(p.is_cuda for module in modules for p in module.parameters())
            return torch.optim.AdamW(
                groups, lr=recipe.lr, eps=recipe.optimizer_eps or 1e-8, fused=True, capturable=on_gpu
            )
        case "rmsproptf":
            from timm.optim.rmsprop_tf import RMSpropTF

            made: torch.optim.Optimizer = RMSpropTF(
                groups, lr=recipe.lr, alpha=0.9, momentum=recipe.momentum, eps=recipe.optimizer_eps or 1e-10
            )
            return made


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def hold_rates_in_tensors(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Move each group's rate to a tensor on the device, so that a captured step can read it."""
    for group in optimizer.param_groups:
        group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32).to(device)
