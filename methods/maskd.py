"""MasKD: masked distillation with receptive tokens (Huang et al., ICLR 2023, arXiv 2205.14589)."""

from __future__ import annotations

from collections.abc import Container

import torch
from torch import Tensor, nn

from methods.base import AUX_LOGITS, SEG_LOGITS, Batch, Losses, Method, Moment, Outputs, Pair, at_least_float32
from methods.maps import pixel_cross_entropy
from methods.options import MethodOptions, option

_EPS = 1e-5  # of a mask's size, as in the source
EMPTY = 1e-12  # of each of two masks in their overlap, as in the source
START = 0.01  # standard deviation of tokens before they learn, as in the source: masks begin at a half


class MasKD(Method):
    """MasKD for segmentation: the squared error of class scores, within masks that receptive tokens find.

    A token `k` of `classes` numbers masks `m_k = sigmoid(k . t)` of the teacher's scores `t`. Each head's term is
    `1/2 mean over samples, tokens and classes of sum(m_k^2 (s - t)^2) / (sum(m_k) + eps)`, sums over positions.

    The source learns the tokens on the teacher before (10,000 iterations, SGD at 0.1), so that the teacher's scores,
    masked and summed over tokens, still segment, while masks of two tokens overlap little (dice). Give such tokens as
    `tokens`. Without, the same two terms train them beside the student, by its optimiser, which is not the source.
    """

    taps = ("*_logits",)  # both heads, where a network has both
    revision = 2  # tokens began with a standard deviation of 1

    class Options(MethodOptions):
        """Options of MasKD."""

        weight: float = option(1.0, "of the masked errors", source="MasKD, segmentation/train_maskd.py", ge=0)
        aux_weight: float = option(0.4, "of the auxiliary head's share", source="MasKD, train_maskd.py", ge=0)
        count: int = option(8, "tokens that are learned here", source="MasKD, segmentation", ge=2)
        token_weight: float = option(1.0, "of what trains the tokens", source="MasKD, train_mask_module.py", ge=0)
        tokens: tuple[tuple[float, ...], ...] = option(
            (), "tokens learned before, one a row; none: learned beside the student", source="MasKD releases 8 of 19"
        )

    options: Options
    tokens: Tensor

    def build(self, pair: Pair) -> None:
        """Build the tokens: given and fixed, or random and trained."""
        for role in (SEG_LOGITS, *self._auxiliary(pair.student_shapes, pair.teacher_shapes)):
            student, teacher = pair.student_shapes[role], pair.teacher_shapes[role]
            if student != teacher:
                self.skip(f"{role} is {student} in the student and {teacher} in the teacher")
        classes = pair.teacher_shapes[SEG_LOGITS][0]
        if self.options.tokens:
            if wrong := {len(token) for token in self.options.tokens} - {classes}:
                self.skip(f"tokens have {wrong.pop()} numbers, and the teacher {classes} classes")
            self.register_buffer("tokens", torch.tensor(self.options.tokens))
        else:
            self.tokens = nn.Parameter(START * torch.randn(self.options.count, classes))

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return terms `masked`, `masked_aux` if both have that head, and `task` and `dice` of tokens that learn."""
        o = self.options
        terms = {"masked": o.weight * self._masked_error(student[SEG_LOGITS], teacher[SEG_LOGITS])}
        for role in self._auxiliary(student, teacher):
            terms["masked_aux"] = o.weight * o.aux_weight * self._masked_error(student[role], teacher[role])
        if not o.tokens:
            scores = at_least_float32(teacher[SEG_LOGITS])
            masks = masks_of(self.tokens, scores)
            terms["task"] = o.token_weight * pixel_cross_entropy(masked(masks, scores), batch.targets)
            terms["dice"] = o.token_weight * overlap(masks)
        return Losses(terms)

    def _masked_error(self, student: Tensor, teacher: Tensor) -> Tensor:
        return masked_errors(masks_of(self.tokens.detach(), teacher), student, teacher, _EPS).mean() / 2

    @staticmethod
    def _auxiliary(student: Container[str], teacher: Container[str]) -> tuple[str, ...]:
        """Return the auxiliary head's role if both networks have that head. MobileNetV2 students have none."""
        return (AUX_LOGITS,) if AUX_LOGITS in student and AUX_LOGITS in teacher else ()


def masks_of(tokens: Tensor, maps: Tensor) -> Tensor:
    """Return the masks B,K,H,W in (0, 1) of maps B,C,H,W by tokens K,C."""
    with torch.autocast(maps.device.type, enabled=False):
        return torch.einsum("kc,bchw->bkhw", tokens, at_least_float32(maps)).sigmoid()


def masked(masks: Tensor, teacher: Tensor) -> Tensor:
    """Return maps B,C,H,W multiplied by the sum of masks B,K,H,W."""
    return teacher * masks.sum(dim=1, keepdim=True)


def masked_errors(masks: Tensor, student: Tensor, teacher: Tensor, eps: float = 0.0) -> Tensor:
    """Return `sum(m^2 (s - t)^2) / (sum(m) + eps)` over positions, B,K,C, of masks B,K,H,W and maps B,C,H,W."""
    with torch.autocast(masks.device.type, enabled=False):
        flat = masks.flatten(2)
        errors = (at_least_float32(student) - at_least_float32(teacher)).square().flatten(2).transpose(1, 2)
        return flat.square() @ errors / (flat.sum(dim=2, keepdim=True) + eps)


def overlap(masks: Tensor) -> Tensor:
    """Return the dice of all pairs of different masks B,K,H,W of an image, mean over pairs and images."""
    with torch.autocast(masks.device.type, enabled=False):
        flat = masks.flatten(2)
        shared, sizes = flat @ flat.transpose(1, 2), flat.square().sum(dim=2) + EMPTY
        dice = 2 * shared / (sizes.unsqueeze(1) + sizes.unsqueeze(2))
        others = ~torch.eye(flat.shape[1], dtype=torch.bool, device=flat.device)
        return (dice * others).mean(dim=0).sum() / others.sum()
