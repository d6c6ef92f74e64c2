from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from golden_values import Golden, batch_of, built, moment_at, pair_of, shapes_of, total
from torch import Tensor

from benchmark.errors import CannotServe
from methods.attention import channel_attention, object_masks, spatial_attention
from methods.base import Annotation, Batch, ImageSize, Method
from methods.fgd import FGD

NAMES = {
    "pyramid.0.align.": "align.",
    **{
        f"pyramid.0.{whose}_context.{ours}.": f"{theirs}_{whose[0]}."
        for whose in ("student", "teacher")
        for ours, theirs in (("mask", "conv_mask"), ("add", "channel_add_conv"))
    },
}
TERMS = {"foreground": "fg", "background": "bg", "attention": "attention", "global": "global"}


def batch_with(boxes: list[Tensor], size: tuple[int, int]) -> Batch:
    annotations = tuple(Annotation(found, torch.zeros(len(found), dtype=torch.int64)) for found in boxes)
    return replace(batch_of(len(boxes)), annotations=annotations, sizes=(ImageSize(size, size),) * len(boxes))


def weights_of(golden: Golden) -> dict[str, float]:
    letters = {"foreground": "alpha", "background": "beta", "attention": "gamma", "global": "lambda"}
    return {f"{term}_weight": golden.meta[f"{letter}_fgd"] for term, letter in letters.items()}


def case(name: str, **options: float) -> tuple[Golden, Method, dict[str, Tensor], dict[str, Tensor], Batch]:
    golden = Golden(name)
    student, teacher = {"fpn.0": golden.leaf("student_feature")}, {"fpn.0": golden["teacher_feature"]}
    pair = replace(pair_of(shapes_of(student), shapes_of(teacher)), task="detection")
    method = built(FGD(FGD.Options(temperature=golden.meta["temp"], **options)), pair)
    golden.load_into(method, NAMES)
    height, width = golden.meta["img_shape"]
    return golden, method, student, teacher, batch_with([golden["boxes_0"], golden["boxes_1"]], (height, width))


@pytest.mark.parametrize("name", ["fgd", "fgd_align"])
def test_loss_and_gradients(name: str) -> None:
    golden, method, student, teacher, batch = case(name, **weights_of(Golden(name)))
    loss = total(method.losses(student, teacher, batch, moment_at()))
    loss.backward()
    golden.check(loss, "loss")
    golden.check(student["fpn.0"].grad, "grad_student")
    golden.check_gradients(method, NAMES)


@pytest.mark.parametrize("name", ["fgd", "fgd_align"])
@pytest.mark.parametrize("term", TERMS)
def test_each_term_alone(name: str, term: str) -> None:
    ones = {f"{other}_weight": float(other == term) for other in TERMS}
    golden, method, student, teacher, batch = case(name, **ones)
    losses = method.losses(student, teacher, batch, moment_at())
    golden.check(losses.terms[term], f"loss_{TERMS[term]}")
    total(losses).backward()
    golden.check(student["fpn.0"].grad, f"grad_student_{TERMS[term]}")


def test_masks_and_attentions() -> None:
    golden, _, student, teacher, batch = case("fgd")
    foreground, background = object_masks(batch.boxes(), teacher["fpn.0"])
    golden.check(foreground[:, 0], "mask_foreground")
    golden.check(background[:, 0], "mask_background")
    for whose, maps in (("student", student["fpn.0"]), ("teacher", teacher["fpn.0"])):
        golden.check(spatial_attention(maps, golden.meta["temp"])[:, 0], f"spatial_attention_{whose}")
        golden.check(channel_attention(maps, golden.meta["temp"])[:, :, 0, 0], f"channel_attention_{whose}")


def test_an_image_without_objects_and_one_full_of_one_are_served() -> None:
    features = torch.zeros(2, 1, 4, 4)
    batch = batch_with([torch.zeros(0, 4), torch.tensor([[0.0, 0.0, 32.0, 32.0]])], (32, 32))
    foreground, background = object_masks(batch.boxes(), features)
    torch.testing.assert_close(foreground[0], torch.zeros(1, 4, 4))
    torch.testing.assert_close(background[0], torch.full((1, 4, 4), 1 / 16))
    torch.testing.assert_close(foreground[1], torch.full((1, 4, 4), 1 / 25))
    torch.testing.assert_close(background[1], torch.zeros(1, 4, 4))


def test_global_relations_start_as_the_bare_maps() -> None:
    shapes = {"fpn.0": (4, 3, 5)}
    method = built(FGD(), replace(pair_of(shapes, shapes), task="detection"))
    maps = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(method.pyramid[0].student_context(maps), maps)


def test_a_task_without_boxes_and_levels_of_other_sizes_are_refused() -> None:
    shapes = {"fpn.0": (4, 3, 5)}
    with pytest.raises(CannotServe, match="ground-truth boxes, which classification has not"):
        FGD().build(pair_of(shapes, shapes))
    with pytest.raises(CannotServe, match="not two maps of one size"):
        FGD().build(replace(pair_of(shapes, {"fpn.0": (4, 6, 10)}), task="detection"))
    with pytest.raises(CannotServe, match="no ground-truth boxes"):
        batch_of(2).boxes()
