from __future__ import annotations

from typing import Any

import pytest
import torch
from golden_values import batch_of, built, moment_at, pair_of, shapes_of
from test_plain_losses import check, normal
from torch import Tensor

from benchmark.errors import CannotServe
from methods.regressionkd import RegressionKD

DRAW = torch.Generator().manual_seed(0)


def found(student: dict[str, Tensor], teacher: dict[str, Tensor], **options: Any) -> Tensor:
    method = built(RegressionKD(RegressionKD.Options(**options)), pair_of(shapes_of(student), shapes_of(teacher)))
    return method.losses(student, teacher, batch_of(2), moment_at()).terms["regression"]


def plain(student: Tensor, teacher: Tensor, beta: float) -> float:
    sizes = [abs(a - b) for a, b in zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)]
    return sum(d * d / (2 * beta) if d < beta else d - beta / 2 for d in sizes) / len(sizes)


@pytest.mark.parametrize("beta", [0.11, 1.0])
def test_smooth_l1_of_each_level_added_up(beta: float) -> None:
    sides = [(4, 3), (2, 2)]
    student, teacher = ({f"bbox_preds.{i}": normal(DRAW, 2, 8, *s) for i, s in enumerate(sides)} for _ in range(2))
    expected = sum(plain(student[role], teacher[role], beta) for role in student)
    check(found(student, teacher, beta=beta, weight=0.5), 0.5 * expected)


def test_l1() -> None:
    student, teacher = ({"bbox_preds.0": normal(DRAW, 2, 8, 3, 3)} for _ in range(2))
    expected = (student["bbox_preds.0"] - teacher["bbox_preds.0"]).abs().mean()
    check(found(student, teacher, error="l1"), float(expected))


def test_one_box_for_all_classes_teaches_each_class() -> None:
    student, teacher = {"roi.bbox_preds": normal(DRAW, 5, 12)}, {"roi.bbox_preds": normal(DRAW, 5, 4)}
    each = [plain(student["roi.bbox_preds"][:, 4 * i : 4 * i + 4], teacher["roi.bbox_preds"], 1.0) for i in range(3)]
    check(found(student, teacher, tap="roi.bbox_preds"), sum(each) / 3)


@pytest.mark.parametrize("shape", [(8,), (4, 3, 3)])
def test_other_differences_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(CannotServe, match=r"roi.bbox_preds is \(12,\) in the student"):
        RegressionKD(RegressionKD.Options(tap="roi.bbox_preds")).build(
            pair_of({"roi.bbox_preds": (12,)}, {"roi.bbox_preds": shape})
        )
