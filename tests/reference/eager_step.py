"""A DiffKD training step as most code bases write it: the baseline that our speed is measured against.

The same arithmetic and random draws as the engine's step, with nothing done to be fast: maps B,C,H,W in memory, the
teacher with its batch norms, a DDIM scheduler that looks its constants up in tensors at every step, torch's default
optimiser, and images that worker processes augment one by one.
"""

from __future__ import annotations

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import functional as transforms

from benchmark.data.augment import CIFAR_MEAN, CIFAR_STD, PADDING, CropFlipPlan
from benchmark.data.cifar import Split
from benchmark.models.taps import untap
from benchmark.train.classification.training import Training
from methods.diffkd.networks import Pointwise


class Images(Dataset[tuple[Tensor, int]]):
    """Training images in the order of an epoch's plan, each padded, cropped, flipped and normalised by torchvision."""

    def __init__(self, split: Split, plan: CropFlipPlan) -> None:
        self.split, self.plan = split, plan

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        position = int(self.plan.order[place])
        image = transforms.to_pil_image(self.split.images[position])
        side = image.size[0]
        top, left = self.plan.offsets[place].tolist()
        image = transforms.crop(transforms.pad(image, [PADDING]), top, left, side, side)
        if self.plan.flips[place]:
            image = transforms.hflip(image)
        normal = transforms.normalize(transforms.to_tensor(image), list(CIFAR_MEAN), list(CIFAR_STD))
        return normal, int(self.split.labels[position])


def loader(split: Split, plan: CropFlipPlan, batch: int, workers: int = 2) -> DataLoader[tuple[Tensor, int]]:
    """Batches of an epoch, in its order, from worker processes."""
    return DataLoader(Images(split, plan), batch_size=batch, num_workers=workers, persistent_workers=workers > 0)


class Scheduler:
    """DDIM with eta 0 over tables of tensors, as diffusion libraries write it."""

    def __init__(self, evaluations: int) -> None:
        self.alphas = torch.cumprod(1.0 - torch.linspace(1e-4, 0.02, 1000), dim=0)
        self.stride = 1000 // (2 * evaluations)
        self.timesteps = torch.arange(evaluations).flip(0) * self.stride

    def step(self, noise: Tensor, timestep: Tensor, sample: Tensor) -> Tensor:
        alpha = self.alphas[timestep]
        earlier = timestep - self.stride
        earlier_alpha = self.alphas[earlier] if earlier >= 0 else torch.tensor(1.0)
        clean = (sample - (1 - alpha) ** 0.5 * noise) / alpha**0.5
        return earlier_alpha**0.5 * clean + (1 - earlier_alpha) ** 0.5 * noise

    def add_noise(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        alpha = self.alphas[timesteps].view(-1, 1, 1, 1)
        return alpha**0.5 * sample + (1 - alpha) ** 0.5 * noise


class EagerStep:
    """The step of a training of DiffKD (official, feature and logits) between CIFAR ResNets, from the same weights."""

    def __init__(self, training: Training) -> None:
        parts = training.parts
        assert parts.teacher is not None
        recipe = training.recipe
        self.teacher = _plain(parts.teacher.network.network).eval().requires_grad_(False)
        self.student = _plain(parts.distiller.student.network).train()
        self.method = _plain(parts.distiller.method).train()
        self.noise = torch.Generator()
        self.noise.set_state(parts.moment.generator.get_state())
        self.scheduler = Scheduler(evaluations=5)
        parameters = [*self.student.parameters(), *self.method.parameters()]
        self.optimizer = torch.optim.SGD(
            parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )

    def step(self, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Inputs B,3,32,32 and labels B: one update; the loss terms before it, by name."""
        with torch.no_grad():
            teacher_map, teacher_logits = features_and_logits(self.teacher, inputs)
        student_map, student_logits = features_and_logits(self.student, inputs)
        terms = {"task": F.cross_entropy(student_logits, targets)}
        feature, logits = self.method.branches["feature"], self.method.branches["logits"]
        denoised, losses = self.denoised(feature, student_map, teacher_map)
        terms["feature.distillation"] = F.mse_loss(denoised, teacher_map)
        terms |= {f"feature.{name}": value for name, value in losses.items()}
        vectors = student_logits[:, :, None, None], teacher_logits[:, :, None, None]
        denoised, losses = self.denoised(logits, *vectors)
        terms["logits.distillation"] = F.kl_div(
            denoised.flatten(1).log_softmax(1), teacher_logits.softmax(1), reduction="batchmean"
        )
        terms |= {f"logits.{name}": value for name, value in losses.items()}
        total = sum(terms.values(), torch.zeros(()))
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        return {name: value.detach() for name, value in terms.items()} | {"total": total.detach()}

    def denoised(self, branch: nn.Module, student: Tensor, teacher: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """One branch of DiffKD on maps B,C,H,W: the projected, noise-matched and denoised tensor, and L_diff."""
        sample = branch.student_projection(student)
        gamma = branch.adapter(sample).view(-1, 1, 1, 1)
        sample = gamma * sample + (1 - gamma) * torch.randn(sample.shape, generator=self.noise)
        for timestep in self.scheduler.timesteps:
            noise = branch.predictor(sample, timestep.expand(len(sample)))
            sample = self.scheduler.step(noise, timestep, sample)
        drawn = torch.randn(teacher.shape, generator=self.noise)
        timesteps = torch.randint(1000, (len(teacher),), generator=self.noise)
        predicted = branch.predictor(self.scheduler.add_noise(teacher, drawn, timesteps), timesteps)
        return branch.output_projection(sample), {"diffusion": F.mse_loss(predicted, drawn)}


def features_and_logits(network: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The last map before pooling, and the class scores, of a CIFAR ResNet."""
    out = network.relu(network.bn1(network.conv1(inputs)))
    out = network.layer3(network.layer2(network.layer1(out)))
    return out, network.fc(network.avgpool(out).flatten(1))


def _plain(module: nn.Module) -> nn.Module:
    copied = deepcopy(module).to(memory_format=torch.contiguous_format)
    untap(copied)
    for part in copied.modules():
        if isinstance(part, Pointwise):  # a convolution with the same weights, which torch then treats as one
            part.__class__ = nn.Conv2d
    return copied
