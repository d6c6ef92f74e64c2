"""The discriminator of class scores of structured knowledge distillation (Liu et al., CVPR 2019, arXiv 1903.04197)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

_SIDE = 64  # halved four times, it leaves the 4 x 4 positions of the last kernel
_BETAS, _EPS = (0.9, 0.99), 1e-8  # Adam's, in CIRKD's train_kd.py


class Discriminator(nn.Module):
    """A network that scores a teacher's maps B,C,H,W high and a student's low, with the optimiser that trains it.

    As in CIRKD's utils/sagan.py: batch norm, four spectrally normalised convolutions that halve the map, self-attention
    after the last two, and a convolution to scores B,1,h,w. Maps with a side below 64 are padded with zeros. Adam
    minimises `mean relu(1 - D(teacher)) + mean relu(1 + D(student))`; the student's own loss is `-mean D(student)`.

    All of its state is in buffers: checkpoints carry them, and the student's optimiser does not train them.
    """

    moments: Tensor
    steps: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, track_running_stats=False)
        self.layers = nn.Sequential(
            _Halving(channels, 64),
            _Halving(64, 128),
            _Halving(128, 256),
            _Attention(256),
            _Halving(256, 512),
            _Attention(512),
            nn.Conv2d(512, 1, kernel_size=4),
        )
        self.weights = [name for name, _ in self.named_parameters()]
        for place, name in (full.rsplit(".", 1) for full in self.weights):
            module = self.get_submodule(place)
            initial = module.get_parameter(name).detach()
            delattr(module, name)
            module.register_buffer(name, initial)
        count = sum(weight.numel() for weight in self._weights().values())
        self.register_buffer("moments", torch.zeros(2, count))  # Adam's, of all weights in their order
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, maps: Tensor) -> Tensor:
        """Return the scores B,1,h,w of maps B,C,H,W."""
        height, width = maps.shape[-2:]
        padded = F.pad(self.norm(maps), (0, max(0, _SIDE - width), 0, max(0, _SIDE - height)))
        scores: Tensor = self.layers(padded)
        return scores

    def student_loss(self, student: Tensor) -> Tensor:
        """Return the student's loss for its maps. Its gradient is that of the present weights, even after `learn`."""
        copies = {name: weight.clone() for name, weight in self._weights().items()}
        scores: Tensor = functional_call(self, copies, student)
        return -scores.mean()

    @torch.no_grad()
    def learn(
        self, student: Tensor, teacher: Tensor, weight: float, lr: float, gather: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Train one step and return its loss. `gather` concatenates the rows of all ranks: gradients are averaged."""
        weights = {name: held.requires_grad_() for name, held in self._weights().items()}
        with torch.enable_grad():
            fake, real = (functional_call(self, weights, maps) for maps in (student, teacher))
            loss = weight * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
            gradients = torch.autograd.grad(loss, list(weights.values()))
        gradient = gather(torch.cat([part.flatten() for part in gradients]).unsqueeze(0)).mean(dim=0)
        change = lr * self._direction(gradient)
        parts = torch.split(change, [part.numel() for part in gradients])
        for held, part in zip(weights.values(), parts, strict=True):
            held.sub_(part.view_as(held))
        return loss.detach()

    def _weights(self) -> dict[str, Tensor]:
        return {name: self.get_buffer(name).detach() for name in self.weights}

    def _direction(self, gradient: Tensor) -> Tensor:
        """Move Adam's moments, and return the direction of its step."""
        self.steps += 1
        for moment, seen, beta in zip(self.moments, (gradient, gradient.square()), _BETAS, strict=True):
            moment.lerp_(seen, 1 - beta)
        mean, square = (moment / (1 - beta**self.steps) for moment, beta in zip(self.moments, _BETAS, strict=True))
        direction: Tensor = mean / (square.sqrt() + _EPS)
        return direction


class _Halving(nn.Conv2d):
    """A convolution that halves a map, and a leaky ReLU. Its kernel is divided by its largest singular value.

    One power iteration for each pass in train mode estimates the singular vectors, `left` and `right`.
    """

    left: Tensor
    right: Tensor

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, kernel_size=4, stride=2, padding=1)
        for name, size in (("left", out), ("right", channels * 16)):
            self.register_buffer(name, F.normalize(torch.randn(size), dim=0))

    def forward(self, maps: Tensor) -> Tensor:
        kernel = self.weight.flatten(1)
        if self.training:
            # Through `data`, unseen by autograd, as in the source: both passes of `learn` get the gradient of the
            # singular value by the vectors of the later pass.
            self.right.data.copy_(F.normalize(kernel.detach().T @ self.left, dim=0))
            self.left.data.copy_(F.normalize(kernel.detach() @ self.right, dim=0))
        return F.leaky_relu(self._conv_forward(maps, self.weight / (self.left @ kernel @ self.right), self.bias), 0.1)


class _Attention(nn.Module):
    """Self-attention between a map's positions, added to the map with a learned factor that begins at 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key = (nn.Conv2d(channels, channels // 8, 1) for _ in range(2))
        self.value = nn.Conv2d(channels, channels, 1)
        self.factor = nn.Parameter(torch.zeros(1))

    def forward(self, maps: Tensor) -> Tensor:
        query, key, value = (convolve(maps).flatten(2) for convolve in (self.query, self.key, self.value))
        attention = (query.mT @ key).softmax(dim=2)
        attended: Tensor = (value @ attention.mT).view_as(maps)
        return maps + self.factor * attended
