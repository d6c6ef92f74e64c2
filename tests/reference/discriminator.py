"""CIRKD's discriminator, its hinge losses and its Adam, weight by weight and without modules."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

KERNELS = {0: 64, 1: 128, 2: 256, 4: 512}  # layers that halve the map, and their channels
ATTENTIONS = {3: 256, 5: 512}
SHAPES = {"query": 8, "key": 8, "value": 1}


def iterate(kernel: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    """Return the vectors `left` and `right` after one power iteration."""
    right = kernel.T @ left
    right = right / right.norm()
    found = kernel @ right
    return found / found.norm(), right


def convolve(maps: Tensor, kernel: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """As one product of matrices."""
    side = kernel.shape[-1]
    columns = F.unfold(maps, side, padding=padding, stride=stride)
    height, width = ((size + 2 * padding - side) // stride + 1 for size in maps.shape[-2:])
    flat = torch.einsum("ok,bkp->bop", kernel.flatten(1), columns) + bias.view(1, -1, 1)
    return flat.view(len(maps), -1, height, width)


def attend(weights: dict[str, Tensor], layer: int, maps: Tensor) -> Tensor:
    """Position by position: what each sees of all, weighted by likeness."""
    projected = {
        name: torch.einsum("oc,bcp->bop", weights[f"layers.{layer}.{name}.weight"].flatten(1), maps.flatten(2))
        + weights[f"layers.{layer}.{name}.bias"].view(1, -1, 1)
        for name in SHAPES
    }
    seen = []
    for position in range(maps.shape[2] * maps.shape[3]):
        likeness = torch.einsum("bc,bcp->bp", projected["query"][:, :, position], projected["key"]).exp()
        share = likeness / likeness.sum(dim=1, keepdim=True)
        seen.append(torch.einsum("bp,bcp->bc", share, projected["value"]))
    return maps + weights[f"layers.{layer}.factor"] * torch.stack(seen, dim=2).view_as(maps)


def scores(weights: dict[str, Tensor], norms: dict[int, Tensor], maps: Tensor) -> Tensor:
    """Return the scores of maps; `norms` has the largest singular value of each kernel."""
    mean = maps.mean(dim=(0, 2, 3), keepdim=True)
    variance = (maps - mean).square().mean(dim=(0, 2, 3), keepdim=True)
    scale, shift = (weights[f"norm.{name}"].view(1, -1, 1, 1) for name in ("weight", "bias"))
    maps = (maps - mean) / (variance + 1e-5).sqrt() * scale + shift
    full = maps.new_zeros(*maps.shape[:2], max(64, maps.shape[2]), max(64, maps.shape[3]))
    full[:, :, : maps.shape[2], : maps.shape[3]] = maps
    maps = full
    for layer in range(6):
        if layer in ATTENTIONS:
            maps = attend(weights, layer, maps)
        else:
            kernel, bias = (weights[f"layers.{layer}.{name}"] for name in ("weight", "bias"))
            maps = convolve(maps, kernel / norms[layer], bias, stride=2, padding=1)
            maps = torch.where(maps > 0, maps, 0.1 * maps)
    return convolve(maps, weights["layers.6.weight"], weights["layers.6.bias"], stride=1, padding=0)


class Adversary:
    """The discriminator's state: weights by name, singular vectors by layer, Adam's moments by name."""

    def __init__(self, weights: dict[str, Tensor], left: dict[int, Tensor]) -> None:
        self.weights = {name: weight.clone() for name, weight in weights.items()}
        self.left = {layer: vector.clone() for layer, vector in left.items()}
        self.first = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        self.second = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        self.steps = 0

    def step(self, student: Tensor, teacher: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        """Make one training step of the source; return the student's loss and the discriminator's.

        The student is judged first, then the discriminator learns: three passes, each after a power iteration.
        """
        leaves = {name: weight.clone().requires_grad_() for name, weight in self.weights.items()}
        kernels = {layer: leaves[f"layers.{layer}.weight"].flatten(1) for layer in KERNELS}
        values: list[dict[int, float]] = []
        for _ in range(3):
            rights = {}
            for layer, kernel in kernels.items():
                self.left[layer], rights[layer] = iterate(kernel.detach(), self.left[layer])
            values.append(
                {layer: float(self.left[layer] @ kernels[layer].detach() @ rights[layer]) for layer in KERNELS}
            )
        # All passes share the vectors' memory: values are each pass's own, gradients are by the last vectors.
        last = {layer: self.left[layer] @ kernels[layer] @ rights[layer] for layer in KERNELS}
        norms = [{layer: found[layer] + last[layer] - last[layer].detach() for layer in KERNELS} for found in values]
        fixed = {layer: torch.tensor(value, dtype=student.dtype) for layer, value in values[0].items()}
        judged = -scores(self.weights, fixed, student).mean()
        fake = scores(leaves, norms[1], student.detach())
        real = scores(leaves, norms[2], teacher)
        loss = weight * ((1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean())
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        self.adam(dict(zip(leaves, gradients, strict=True)), 4e-4, 0.9, 0.99)
        return judged, loss.detach()

    def adam(self, gradients: dict[str, Tensor], lr: float, beta1: float, beta2: float) -> None:
        """Make one step of Adam (Kingma and Ba, 2015, algorithm 1)."""
        self.steps += 1
        for name, gradient in gradients.items():
            self.first[name] = beta1 * self.first[name] + (1 - beta1) * gradient
            self.second[name] = beta2 * self.second[name] + (1 - beta2) * gradient**2
            mean = self.first[name] / (1 - beta1**self.steps)
            variance = self.second[name] / (1 - beta2**self.steps)
            self.weights[name] = self.weights[name] - lr * mean / (variance**0.5 + 1e-8)
