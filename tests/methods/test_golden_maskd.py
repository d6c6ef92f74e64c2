from typing import Any

import pytest
import torch
from golden_values import Golden, batch_of, built, moment_at, pair_of, shapes_of, total
from torch import Tensor

from benchmark.errors import CannotServe
from methods.maskd import MasKD, masked, overlap


def given(golden: Golden) -> MasKD.Options:
    return MasKD.Options(tokens=tuple(map(tuple, golden["mask_token"].tolist())))


def test_masked_error() -> None:
    golden = Golden("maskd_seg")
    student, teacher = {"seg_logits": golden.leaf("student_map")}, {"seg_logits": golden["teacher_map"]}
    method = built(MasKD(given(golden)), pair_of(shapes_of(student), shapes_of(teacher)))
    method.get_buffer("tokens").copy_(golden["mask_token"])  # as float64 has them
    loss = total(method.losses(student, teacher, batch_of(2), moment_at()))
    loss.backward()
    golden.check(loss, "loss")
    golden.check(student["seg_logits"].grad, "grad_student")
    assert not list(method.parameters())


def test_tokens_given_as_numbers_are_the_tokens_used() -> None:
    golden = Golden("maskd_seg")
    maps = {"seg_logits": golden["teacher_map"]}
    method = MasKD(given(golden))
    method.build(pair_of(shapes_of(maps), shapes_of(maps)))
    torch.testing.assert_close(method.tokens.double(), golden["mask_token"], rtol=1e-6, atol=1e-6)


def test_learning_the_tokens() -> None:
    golden = Golden("maskd_tokens")
    tokens = golden.leaf("param__mask_token")
    masks = torch.einsum("kc,bchw->bkhw", tokens, golden["teacher_map"]).sigmoid()
    scores = masked(masks, golden["teacher_map"])
    dice = overlap(masks)
    ((scores * golden["weight"]).sum() + dice).backward()
    golden.check(scores, "masked")
    golden.check(dice, "dice_loss")
    golden.check(tokens.grad, "grad__mask_token")


def maps(auxiliary: bool, seed: int) -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    roles = ("seg_logits", "aux_logits") if auxiliary else ("seg_logits",)
    return {role: torch.randn(2, 3, 4, 4, generator=draws, dtype=torch.float64) for role in roles}


def terms(student: dict[str, Tensor], teacher: dict[str, Tensor], **options: Any) -> dict[str, Tensor]:
    method = built(MasKD(MasKD.Options(**options)), pair_of(shapes_of(student), shapes_of(teacher), classes=3))
    targets = torch.tensor([0, 255, 1, 2, -1, 0, 1, 2]).view(1, 2, 4).repeat(2, 1, 1)
    return dict(method.losses(student, teacher, batch_of(2, targets), moment_at()).terms)


def test_the_auxiliary_head_counts_where_both_have_one() -> None:
    tokens = ((1.0, 0.0, 0.5), (0.0, 1.0, -0.5))
    one = maps(True, 0)
    alike = {"seg_logits": one["seg_logits"], "aux_logits": one["seg_logits"]}
    other = maps(True, 1)
    other["aux_logits"] = other["seg_logits"]
    both = terms(alike, other, tokens=tokens)
    torch.testing.assert_close(both["masked_aux"], 0.4 * both["masked"])
    assert list(terms({"seg_logits": one["seg_logits"]}, other, tokens=tokens)) == ["masked"]


def test_tokens_learn_from_the_task_and_the_student_from_the_masks() -> None:
    student, teacher = maps(False, 0), maps(False, 1)
    student["seg_logits"].requires_grad_()
    method = built(MasKD(), pair_of(shapes_of(student), shapes_of(teacher), classes=3))
    found = method.losses(student, teacher, batch_of(2, torch.zeros(2, 4, 4, dtype=torch.int64)), moment_at()).terms
    found["masked"].backward(retain_graph=True)
    assert method.get_parameter("tokens").grad is None
    assert student["seg_logits"].grad is not None
    student["seg_logits"].grad = None
    (found["task"] + found["dice"]).backward()
    assert method.get_parameter("tokens").grad is not None
    assert student["seg_logits"].grad is None


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(CannotServe, match="tokens have 2 numbers, and the teacher 3 classes"):
        terms(maps(False, 0), maps(False, 1), tokens=((1.0, 2.0),))
    with pytest.raises(CannotServe, match="in the student and"):
        MasKD().build(pair_of({"seg_logits": (3, 8, 8)}, {"seg_logits": (3, 4, 4)}))


def test_masks_that_hold_nothing_overlap_in_nothing() -> None:
    """As of scores far from zero, which sigmoids of short floats turn to zero."""
    tokens = torch.full((3, 4), -1e3, requires_grad=True)
    masks = torch.einsum("kc,bchw->bkhw", tokens, torch.ones(1, 4, 2, 2)).sigmoid()
    assert float(masks.detach().sum()) == 0
    dice = overlap(masks)
    dice.backward()
    assert float(dice.detach()) == 0
    assert tokens.grad is not None
    assert bool(tokens.grad.isfinite().all())


def test_tokens_start_as_the_source_starts_them() -> None:
    shapes = {"seg_logits": (500, 2, 2)}
    method = built(MasKD(MasKD.Options(count=20)), pair_of(shapes, shapes))
    assert float(method.get_parameter("tokens").detach().std()) == pytest.approx(0.01, rel=0.05)


def test_overlap_of_faint_masks_has_the_sources_epsilon_for_each() -> None:
    masks = torch.tensor([[[[1e-6, 0.0]], [[1e-6, 1e-6]]]], dtype=torch.float64)
    torch.testing.assert_close(overlap(masks), torch.tensor(2e-12 / (3e-12 + 2e-12)).double())


def test_errors_that_float16_cannot_add_up_are_added_up() -> None:
    tokens = ((1.0, 0.0, 0.5), (0.0, 1.0, -0.5))
    student = {"seg_logits": torch.full((1, 3, 64, 64), -8.0)}
    teacher = {"seg_logits": torch.full((1, 3, 64, 64), 8.0)}
    method = MasKD(MasKD.Options(tokens=tokens))
    method.build(pair_of(shapes_of(student), shapes_of(teacher), classes=3))
    expected = method.losses(student, teacher, batch_of(1), moment_at()).terms["masked"]
    halves = [{role: tensor.half() for role, tensor in maps.items()} for maps in (student, teacher)]
    with torch.autocast("cpu", dtype=torch.float16):
        found = method.losses(*halves, batch_of(1), moment_at()).terms["masked"]
    torch.testing.assert_close(found, expected)
