"""Detection methods against second implementations that go cell by cell, on random inputs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from golden_values import batch_of, built, moment_at, pair_of, shapes_of
from test_golden_fgd import batch_with
from test_plain_losses import check, normal, randomise, reference
from torch import Tensor, nn

from methods.base import ImageSize
from methods.fgd import FGD, GlobalContext
from methods.fkd import FKD, NonLocal
from methods.frs import FRS
from methods.maskd_detection import Level, MasKDDetection


@pytest.fixture(params=range(2))
def draw(request: pytest.FixtureRequest) -> torch.Generator:
    return torch.Generator().manual_seed(request.param)


def matrix(conv: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    return conv.weight.detach().flatten(1), conv.bias.detach()


def boxes(draw: torch.Generator, height: int, width: int, count: int) -> Tensor:
    corners = torch.rand(count, 2, 2, generator=draw, dtype=torch.float64) * torch.tensor([width, height])
    return torch.cat((corners.amin(dim=1), corners.amax(dim=1)), dim=1)


def contexts(maps: Tensor, block: GlobalContext) -> Tensor:
    mask, bias = matrix(block.mask)
    norm = block.add[1]
    assert isinstance(norm, nn.LayerNorm)
    weights = matrix(block.add[0]), (norm.weight.detach().flatten(), norm.bias.detach().flatten()), matrix(block.add[3])
    return torch.stack([reference("fgd").context(image, mask[0], float(bias), *weights) for image in maps])


def test_fgd(draw: torch.Generator) -> None:
    student, teacher = {"fpn.0": normal(draw, 2, 4, 5, 6)}, {"fpn.0": 2 * normal(draw, 2, 4, 5, 6)}
    sizes = [(37, 41), (40, 48)]
    found = [boxes(draw, *sizes[0], 3), boxes(draw, *sizes[1], 1)]
    batch = replace(batch_with(found, (40, 48)), sizes=tuple(ImageSize(size, (40, 48)) for size in sizes))
    weights = {"foreground_weight": 0.5, "background_weight": 2.0, "attention_weight": 0.25, "global_weight": 4.0}
    pair = replace(pair_of(shapes_of(student), shapes_of(teacher)), task="detection")
    method = built(FGD(FGD.Options(temperature=0.7, **weights)), pair)
    randomise(method, draw)
    terms = method.losses(student, teacher, batch, moment_at()).terms
    expected = reference("fgd").terms(
        student["fpn.0"], teacher["fpn.0"], [box.tolist() for box in found], sizes, temperature=0.7
    )
    check(terms["foreground"], 0.5 * expected[0], rtol=1e-6)  # inverse areas are float32, as in the released code
    check(terms["background"], 2 * expected[1])
    check(terms["attention"], 0.25 * expected[2])
    level = method.pyramid[0]
    relations = contexts(student["fpn.0"], level.student_context), contexts(teacher["fpn.0"], level.teacher_context)
    check(terms["global"], 4 * float((relations[0] - relations[1]).square().sum()) / 2)


def block(maps: Tensor, found: NonLocal, stride: int) -> Tensor:
    """The non-local block, whose batch norm has the batch's own statistics."""

    def on(conv: nn.Module) -> object:
        weight, bias = matrix(conv)
        return lambda image: torch.einsum("oc,chw->ohw", weight, image) + bias[:, None, None]

    parts = (on(found.query), on(found.key), on(found.value))
    inner = torch.stack([reference("fkd").relations(image, *parts, stride) for image in maps])
    outer = torch.einsum("oc,bchw->bohw", found.out.weight.detach().flatten(1), inner)
    mean, variance = outer.mean(dim=(0, 2, 3), keepdim=True), outer.var(dim=(0, 2, 3), keepdim=True, correction=0)
    normed = (outer - mean) / (variance + 1e-5).sqrt()
    return maps + normed * found.norm.weight.detach().view(1, -1, 1, 1) + found.norm.bias.detach().view(1, -1, 1, 1)


@pytest.mark.parametrize("channel_mask", [False, True])
def test_fkd(draw: torch.Generator, channel_mask: bool) -> None:
    width = 4 if channel_mask else 6  # both networks have their channels averaged by that mask
    student, teacher = {"fpn.0": normal(draw, 2, 4, 5, 6)}, {"fpn.0": 2 * normal(draw, 2, width, 5, 6)}
    weights = {f"{term}_weight": 1.0 for term in ("feature", "channel", "spatial", "nonlocal")}
    options = FKD.Options(channel_mask=channel_mask, temperature=0.3, reductions=(2,), strides=(2,), **weights)
    method = built(FKD(options), pair_of(shapes_of(student), shapes_of(teacher)))
    randomise(method, draw)
    terms = method.losses(student, teacher, batch_of(2), moment_at()).terms
    plain, level = reference("fkd"), method.pyramid[0]
    s, t = student["fpn.0"], teacher["fpn.0"]
    adapted = level.feature(s).detach()
    check(terms["feature"], plain.masked(adapted, s, t, 0.3, channel_mask))
    check(terms["channel"], plain.norm(level.channel(s.mean(dim=(2, 3))), t.mean(dim=(2, 3))))
    check(terms["spatial"], plain.norm(level.spatial(s.mean(dim=1, keepdim=True)), t.mean(dim=1, keepdim=True)))
    relations = level.relation(block(s, level.student_relation, 2)), block(t, level.teacher_relation, 2)
    check(terms["nonlocal"], plain.norm(*relations), rtol=1e-8)


def test_frs(draw: torch.Generator) -> None:
    sides = {0: (4, 5), 1: (2, 3)}
    student = {f"fpn.{i}": normal(draw, 2, 3, *side) for i, side in sides.items()}
    student |= {f"cls_scores.{i}": normal(draw, 2, 6, *side) for i, side in sides.items()}
    teacher = {f"fpn.{i}": normal(draw, 2, 5, *side) for i, side in sides.items()}
    teacher |= {f"cls_scores.{i}": normal(draw, 2, 6, *side) for i, side in sides.items()}
    method = built(
        FRS(FRS.Options(feature_weight=0.5, class_weight=2)), pair_of(shapes_of(student), shapes_of(teacher))
    )
    randomise(method, draw)
    terms = method.losses(student, teacher, batch_of(2), moment_at()).terms
    levels = [
        reference("frs").level(
            method.adapt[i](student[f"fpn.{i}"]).detach(),
            teacher[f"fpn.{i}"],
            student[f"cls_scores.{i}"],
            teacher[f"cls_scores.{i}"],
        )
        for i in sides
    ]
    check(terms["feature"], 0.5 * sum(feature for feature, _ in levels))
    check(terms["class"], 2 * sum(classes for _, classes in levels))


@pytest.mark.parametrize("steps", [0, 1000])
def test_maskd(draw: torch.Generator, steps: int) -> None:
    student, teacher = {"fpn.0": normal(draw, 2, 4, 3, 4)}, {"fpn.0": normal(draw, 2, 3, 3, 4)}
    options = MasKDDetection.Options(count=3, weight=7.0, custom_mask_warmup=1000, token_weight=2.0)
    method = built(MasKDDetection(options), pair_of(shapes_of(student), shapes_of(teacher)))
    randomise(method, draw)
    now = replace(moment_at(), step=torch.tensor(float(steps)))
    terms = method.losses(student, teacher, batch_of(2), now).terms
    plain, level = reference("maskd"), method.levels[0]
    assert isinstance(level, Level)
    kernels = [(conv.weight.detach(), conv.bias.detach()) for conv in (level.weigh[0], level.weigh[2])]
    kernels[1] = (kernels[1][0].flatten(1), kernels[1][1])
    shares = [plain.weights(image, *kernels) for image in teacher["fpn.0"]]
    weight, bias = matrix(method.align[0])
    aligned = torch.einsum("oc,bchw->bohw", weight, student["fpn.0"]) + bias[:, None, None]
    tokens, maps = level.tokens.detach(), teacher["fpn.0"]
    check(terms["masked"], 7 * plain.level_error(tokens, shares, aligned, maps, customised=steps == 1000))
    check(terms["lost"], 2 * plain.lost(tokens, shares, maps))
    check(terms["dice"], 2 * plain.dice(tokens, maps))
