from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from golden_values import Golden, batch_of, built, moment_at, pair_of, shapes_of, total
from torch import Tensor

from benchmark.errors import CannotServe
from methods.base import Method
from methods.frs import FRS

NAMES = {"adapt.": "conv."}


def case(**options: float) -> tuple[Golden, Method, dict[str, Tensor], dict[str, Tensor]]:
    golden = Golden("frs")
    student = {f"fpn.{i}": golden.leaf(f"student_{i}") for i in (0, 1)}
    student |= {f"cls_scores.{i}": golden.leaf(f"student_logits_{i}") for i in (0, 1)}
    teacher = {f"fpn.{i}": golden[f"teacher_{i}"] for i in (0, 1)}
    teacher |= {f"cls_scores.{i}": golden[f"teacher_logits_{i}"] for i in (0, 1)}
    method = built(FRS(FRS.Options(**options)), pair_of(shapes_of(student), shapes_of(teacher)))
    golden.load_into(method, NAMES)
    return golden, method, student, teacher


def test_gradients_at_the_default_weights() -> None:
    golden, method, student, teacher = case()
    total(method.losses(student, teacher, batch_of(2), moment_at())).backward()
    for i in (0, 1):
        golden.check(student[f"fpn.{i}"].grad, f"grad_student_{i}")
        golden.check(student[f"cls_scores.{i}"].grad, f"grad_student_logits_{i}")
    golden.check_gradients(method, NAMES)


def test_terms() -> None:
    golden, method, student, teacher = case()
    terms = method.losses(student, teacher, batch_of(2), moment_at()).terms
    golden.check(terms["feature"], "loss_feature")
    golden.check(terms["class"], "loss_classification")


def test_defaults_are_those_of_the_reference() -> None:
    meta, options = Golden("frs").meta, FRS.Options()
    assert options.feature_weight == meta["feature_weight"]
    assert options.class_weight == meta["classification_weight"]
    assert options.warmup_steps == meta["warm_up_iterations"]


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (125, 0.25), (500, 1.0), (9000, 1.0)])
def test_both_weights_rise_linearly(step: int, share: float) -> None:
    _, method, student, teacher = case()
    full = method.losses(student, teacher, batch_of(2), moment_at()).terms
    found = method.losses(student, teacher, batch_of(2), replace(moment_at(), step=torch.tensor(step))).terms
    for term, value in found.items():
        torch.testing.assert_close(value, share * full[term])


def test_a_loop_that_counts_no_steps_is_told_so() -> None:
    _, method, student, teacher = case()
    with pytest.raises(CannotServe, match="counts steps"):
        method.losses(student, teacher, batch_of(2), replace(moment_at(), step=None))
    _, method, student, teacher = case(warmup_steps=0)
    method.losses(student, teacher, batch_of(2), replace(moment_at(), step=None))


@pytest.mark.parametrize(
    ("teacher", "reason"),
    [
        ({"fpn.0": (6, 4, 4), "cls_scores.0": (9, 4, 4)}, "same classes and anchors"),
        ({"fpn.0": (6, 4, 4), "fpn.1": (6, 2, 2), "cls_scores.0": (3, 4, 4)}, "different taps"),
        ({"fpn.0": (6, 8, 8), "cls_scores.0": (3, 4, 4)}, "not two maps of one size"),
    ],
)
def test_heads_that_differ_are_refused(teacher: dict[str, tuple[int, ...]], reason: str) -> None:
    with pytest.raises(CannotServe, match=reason):
        FRS().build(pair_of({"fpn.0": (6, 4, 4), "cls_scores.0": (3, 4, 4)}, teacher))
