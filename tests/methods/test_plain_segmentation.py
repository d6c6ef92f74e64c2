"""Segmentation methods against second implementations that go pixel by pixel, on random inputs."""

from __future__ import annotations

import pytest
import torch
from draws import scripted
from golden_values import batch_of, built, moment_at, pair_of, shapes_of
from test_plain_losses import check, normal, randomise, reference
from torch import Tensor, nn

from methods.cirkd import CIRKD
from methods.cwd import CWD
from methods.maskd import MasKD


@pytest.fixture(params=range(2))
def draw(request: pytest.FixtureRequest) -> torch.Generator:
    return torch.Generator().manual_seed(request.param)


def maps(draw: torch.Generator, features: int) -> dict[str, Tensor]:
    return {"seg_feature": normal(draw, 2, features, 3, 4), "seg_logits": normal(draw, 2, 3, 3, 4)}


def some_labels(draw: torch.Generator) -> Tensor:
    """Three classes, -1 and 255, at the size of the maps."""
    return torch.tensor([0, 1, 2, 255, -1, 1])[torch.randint(6, (2, 3, 4), generator=draw)]


def test_cwd(draw: torch.Generator) -> None:
    student, teacher = maps(draw, 4), maps(draw, 5)
    method = built(CWD(CWD.Options(temperature=2.0)), pair_of(shapes_of(student), shapes_of(teacher)))
    randomise(method, draw)
    widen = method.get_parameter("align.weight").detach().flatten(1)
    widened = torch.einsum("oc,bchw->bohw", widen, student["seg_feature"])
    terms = method.losses(student, teacher, batch_of(2), moment_at()).terms
    plain = reference("cwd")
    check(terms["feature"], 50 * plain.divergence(widened, teacher["seg_feature"], 2.0, 4))
    check(terms["logits"], 3 * plain.divergence(student["seg_logits"], teacher["seg_logits"], 2.0, 3))
    check(terms["pixel"], plain.pixel(student["seg_logits"], teacher["seg_logits"]))


def project(method: nn.Module, feature: Tensor) -> Tensor:
    """By the formulas of a batch norm in training, and of convolutions that are matrices."""
    first, norm, _, second = method.get_submodule("project").children()
    assert isinstance(norm, nn.BatchNorm2d)
    hidden = torch.einsum("oc,bchw->bohw", first.get_parameter("weight").detach().flatten(1), feature)
    mean, var = hidden.mean(dim=(0, 2, 3), keepdim=True), hidden.var(dim=(0, 2, 3), unbiased=False, keepdim=True)
    scale, shift = (getattr(norm, name).detach().view(1, -1, 1, 1) for name in ("weight", "bias"))
    hidden = ((hidden - mean) / (var + norm.eps).sqrt() * scale + shift).clamp(min=0)
    return torch.einsum("oc,bchw->bohw", second.get_parameter("weight").detach().flatten(1), hidden)


def test_cirkd_over_several_steps(draw: torch.Generator) -> None:
    options = CIRKD.Options(
        temperature=0.5, pixel_queue=7, region_queue=3, pixel_contrast=8, region_contrast=3, enqueued=4
    )
    sizes = shapes_of(maps(draw, 4)), shapes_of(maps(draw, 5))
    method = built(CIRKD(options), pair_of(*sizes, classes=3))
    assert isinstance(method, CIRKD)
    randomise(method, draw)
    plain = reference("cirkd")
    queues = [[plain.Queue(rows) for rows in queue.tolist()] for queue in (method.pixels, method.regions)]
    for _ in range(3):
        student, teacher, labels = maps(draw, 4), maps(draw, 5), some_labels(draw)
        draws = [torch.rand(shape, generator=draw).argsort() for shape in ((2, 3, 12), (7,), (3,))]
        terms = method.losses(student, teacher, batch_of(2, labels), scripted(integers=draws)).terms
        plain.enqueue(queues[1], queues[0], teacher["seg_feature"], labels.flatten(1), draws[0], 4)
        projected = project(method, student["seg_feature"])
        for name, queue, order, count in (("pixel", queues[0], draws[1], 3), ("region", queues[1], draws[2], 2)):
            rows = order.argsort()[:count].tolist()
            expected = plain.against(projected, teacher["seg_feature"], labels.flatten(1), queue, rows, 0.5)
            check(terms[f"memory_{name}"], 0.1 * expected)
        check(terms["batch"], plain.between_images(student["seg_feature"], teacher["seg_feature"], 0.5))
        check(terms["pixel"], reference("cwd").pixel(student["seg_logits"], teacher["seg_logits"]))


def test_maskd(draw: torch.Generator) -> None:
    student, teacher = ({"seg_logits": maps(draw, 1)["seg_logits"]} for _ in range(2))
    labels = some_labels(draw)
    method = built(MasKD(MasKD.Options(count=3)), pair_of(shapes_of(student), shapes_of(teacher), classes=3))
    randomise(method, draw)
    tokens = method.get_parameter("tokens").detach()
    terms = method.losses(student, teacher, batch_of(2, labels), moment_at()).terms
    plain = reference("maskd")
    check(terms["masked"], plain.masked_error(tokens, student["seg_logits"], teacher["seg_logits"]))
    check(terms["dice"], plain.dice(tokens, teacher["seg_logits"]))
    check(terms["task"], plain.task(tokens, teacher["seg_logits"], labels))
