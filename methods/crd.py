"""Contrastive representation distillation (Tian et al., ICLR 2020, arXiv 1910.10699)."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import EMBEDDING, Batch, Losses, Method, Moment, Outputs, Pair
from methods.options import MethodOptions, option

_EPS = 1e-7
_DRAW = 2**62  # draws below this, modulo a row's number of candidates, are uniform but for 1 part in 10^12


class CRD(Method):
    """CRD: tell a sample's own embedding in the other network from those of samples of other classes.

    Both embeddings are a trained linear layer and an L2 norm. A memory per network holds every training sample's. With
    `P = exp(v . memory / T) / Z`, K negatives and `m = K / N`, the mean over the batch of
    `-log(P_+ / (P_+ + m + eps)) - sum over negatives of log(m / (P_- + m + eps))`, for the student against the
    teacher's memory plus the teacher against the student's. `Z` is `N` times the mean of `exp` over the first batch,
    and then stays. Memories are read before they move towards the batch.

    The positive is the sample itself (the source's `exact` mode). Negatives are drawn from samples of other classes,
    with replacement or, as in the source, without where there are enough of them; with replacement, 16384 draws from
    CIFAR-100's 49,500 hold repeats.
    """

    taps = (EMBEDDING,)

    class Options(MethodOptions):
        """Options of CRD."""

        weight: float = option(0.8, "of the two contrasts", source="RepDistiller and mdistiller, CIFAR-100", ge=0)
        width: int = option(128, "of the embeddings", source="RepDistiller and mdistiller", ge=1)
        negatives: int = option(16384, "for each sample", source="RepDistiller and mdistiller", ge=1)
        replacement: bool = option(
            True,
            "draw negatives with replacement; the source does so only where a class leaves fewer than `negatives`",
            source="ours; RepDistiller at b84f547, dataset/cifar100.py, draws without",
        )
        temperature: float = option(0.07, "of the contrast", source="RepDistiller and mdistiller", gt=0)
        momentum: float = option(0.5, "kept of a memory when it is visited", source="RepDistiller", ge=0, lt=1)

    options: Options
    memory_student: Tensor
    memory_teacher: Tensor
    scale_student: Tensor
    scale_teacher: Tensor
    by_class: Tensor
    first: Tensor
    count: Tensor

    def build(self, pair: Pair) -> None:
        """Build two embeddings and two memories, and sort the training samples by class."""
        if pair.labels is None:
            self.skip("negatives are samples of other classes, and the labels of the training set are not known")
        width, samples = self.options.width, pair.dataset_size
        self.embed_student = nn.Linear(pair.student_shapes[EMBEDDING][0], width)
        self.embed_teacher = nn.Linear(pair.teacher_shapes[EMBEDDING][0], width)
        bound = 1 / sqrt(width / 3)
        for network in ("student", "teacher"):
            self.register_buffer(f"memory_{network}", torch.empty(samples, width).uniform_(-bound, bound))
            self.register_buffer(f"scale_{network}", torch.zeros(()))  # zero: not set yet
        self._sort(pair.labels)

    def _sort(self, labels: Tensor) -> None:
        """Set `by_class`, the sample numbers sorted by class, and each sample's `first` place and `count` there."""
        sizes = labels.bincount()
        if int(sizes.max()) == len(labels):
            self.skip("all training samples are of one class, so there are no negatives")
        self.fewest = len(labels) - int(sizes.max())  # candidates of any sample
        self.register_buffer("by_class", labels.argsort(stable=True))
        self.register_buffer("first", (sizes.cumsum(0) - sizes)[labels])
        self.register_buffer("count", sizes[labels])

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return two loss terms, `student` and `teacher`, named after the network whose embedding is contrasted."""
        if batch.targets.is_floating_point():
            self.skip("its positives are one image seen by both networks, and the recipe has mixed images of two")
        v_s = _unit(self.embed_student, student[EMBEDDING])
        v_t = _unit(self.embed_teacher, teacher[EMBEDDING])
        candidates = self._candidates(batch.indices, moment)
        terms = {
            "student": self._contrast(v_s, self.memory_teacher, self.scale_student, candidates, moment),
            "teacher": self._contrast(v_t, self.memory_student, self.scale_teacher, candidates, moment),
        }
        self._remember(v_s, v_t, batch.indices, moment)
        return Losses({name: self.options.weight * term for name, term in terms.items()})

    def _candidates(self, indices: Tensor, moment: Moment) -> Tensor:
        """Return the positive, then the negatives, as sample numbers B,1+K."""
        shape = (len(indices), self.options.negatives)
        first, count = self.first[indices].unsqueeze(1), self.count[indices].unsqueeze(1)
        if not self.options.replacement and self.options.negatives <= self.fewest:
            return torch.cat([indices.unsqueeze(1), self._distinct(first, count, moment)], dim=1)
        draws = moment.integers(_DRAW, shape, indices.device) % (len(self.by_class) - count)
        # Places in the sorted list, with the sample's own class stepped over.
        negatives = self.by_class[draws + count * (draws >= first)]
        return torch.cat([indices.unsqueeze(1), negatives], dim=1)

    def _distinct(self, first: Tensor, count: Tensor, moment: Moment) -> Tensor:
        """Return distinct negatives B,K: those to which the largest of random numbers fall."""
        places = torch.arange(len(self.by_class), device=first.device)
        keys = moment.integers(_DRAW, (len(first), len(places)), first.device)
        keys = keys.masked_fill((places >= first) & (places < first + count), -1)
        return self.by_class[keys.topk(self.options.negatives, dim=1).indices]

    def _contrast(self, v: Tensor, memory: Tensor, scale: Tensor, candidates: Tensor, moment: Moment) -> Tensor:
        # All similarities at once take far less memory than a copy of B x K rows. The clone is for the backward pass,
        # since the memory is written before it.
        with torch.autocast(v.device.type, enabled=False):
            similarities = v @ memory.clone().T
        p = (similarities.gather(1, candidates) / self.options.temperature).exp()
        self._set_once(scale, p, len(memory), moment)
        p = p / scale.clone()
        m = self.options.negatives / len(memory)
        positive, negatives = p[:, 0], p[:, 1:]
        likelihood = (positive / (positive + m + _EPS)).log().sum() + (m / (negatives + m + _EPS)).log().sum()
        return -likelihood / len(v)

    @torch.no_grad()
    def _set_once(self, scale: Tensor, p: Tensor, samples: int, moment: Moment) -> None:
        # The same on every rank, and without asking the device whether it has been set.
        first = moment.gather(p.mean().reshape(1)).mean() * samples
        scale.copy_(torch.where(scale == 0, first, scale))

    @torch.no_grad()
    def _remember(self, v_s: Tensor, v_t: Tensor, indices: Tensor, moment: Moment) -> None:
        seen = moment.gather(indices)
        for memory, v in ((self.memory_student, v_s), (self.memory_teacher, v_t)):
            moved = torch.lerp(moment.gather(v.detach()), memory[seen], self.options.momentum)
            memory.index_copy_(0, seen, F.normalize(moved, dim=1))


def _unit(embed: nn.Module, features: Tensor) -> Tensor:
    """Return the embedding of B,C as B,width of length one, in its own precision: 1 / T enlarges small errors."""
    with torch.autocast(features.device.type, enabled=False):
        unit: Tensor = F.normalize(embed(features.to(next(embed.parameters()).dtype)), dim=1)
    return unit
