from __future__ import annotations

from typing import Any

import pytest
import torch
from golden_values import batch_of, built, moment_at, pair_of, shapes_of
from torch import Tensor, nn

from benchmark.errors import CannotServe
from methods.base import Method
from methods.mse import MSE


def maps(channels: int, side: int) -> Tensor:
    return torch.randn(4, channels, side, side, dtype=torch.float64)


def made(student: dict[str, Tensor], teacher: dict[str, Tensor], **options: Any) -> Method:
    return built(MSE(MSE.Options(**options)), pair_of(shapes_of(student), shapes_of(teacher)))


def value(method: Method, student: dict[str, Tensor], teacher: dict[str, Tensor]) -> Tensor:
    return method.losses(student, teacher, batch_of(4), moment_at()).terms["mse"]


def test_student_maps_are_projected_to_the_teachers_channels() -> None:
    student, teacher = {"pre_pool": maps(3, 4)}, {"pre_pool": maps(5, 4)}
    method = made(student, teacher, weight=2.0)
    [weight, bias] = [parameter.detach() for parameter in method.parameters()]
    projected = torch.einsum("tsij,bshw->bthw", weight, student["pre_pool"]) + bias.view(1, 5, 1, 1)
    expected = 2 * ((projected - teacher["pre_pool"]) ** 2).mean()
    torch.testing.assert_close(value(method, student, teacher), expected)


@pytest.mark.parametrize(("projection", "trained"), [("maps", 2), ("unequal", 0)])
def test_maps_of_equal_width_are_projected_on_request(projection: str, trained: int) -> None:
    student, teacher = {"pre_pool": maps(5, 4)}, {"pre_pool": maps(5, 4)}
    method = made(student, teacher, projection=projection)
    assert len(list(method.parameters())) == trained
    plain = ((student["pre_pool"] - teacher["pre_pool"]) ** 2).mean()
    assert torch.equal(value(method, student, teacher), plain) == (trained == 0)


def test_logits_of_the_same_classes_are_compared_as_they_are() -> None:
    student, teacher = ({"logits": torch.randn(4, 10).double()} for _ in range(2))
    method = made(student, teacher, tap="logits")
    assert method.taps == ("logits",)
    assert not list(method.parameters())
    torch.testing.assert_close(value(method, student, teacher), ((student["logits"] - teacher["logits"]) ** 2).mean())


def test_vectors_of_unequal_width_are_projected() -> None:
    student, teacher = {"embedding": torch.randn(4, 6).double()}, {"embedding": torch.randn(4, 9).double()}
    method = made(student, teacher, tap="embedding")
    [weight, bias] = method.parameters()
    expected = ((student["embedding"] @ weight.T + bias - teacher["embedding"]) ** 2).mean()
    torch.testing.assert_close(value(method, student, teacher), expected)


def test_unequal_maps_are_resized_as_asked() -> None:
    student, teacher = {"pre_pool": maps(3, 8)}, {"pre_pool": maps(3, 4)}
    pooled = nn.functional.avg_pool2d(student["pre_pool"], 2)
    method = made(student, teacher, projection="unequal")
    torch.testing.assert_close(value(method, student, teacher), ((pooled - teacher["pre_pool"]) ** 2).mean())
    smaller = made(teacher, student, projection="unequal", resize="interpolate")
    enlarged = nn.functional.interpolate(teacher["pre_pool"], size=(8, 8), mode="bilinear")
    torch.testing.assert_close(value(smaller, teacher, student), ((enlarged - student["pre_pool"]) ** 2).mean())


def test_a_map_and_a_vector_cannot_be_compared() -> None:
    with pytest.raises(CannotServe, match="embedding"):
        MSE(MSE.Options(tap="embedding")).build(pair_of({"embedding": (8,)}, {"embedding": (8, 2, 2)}))


def test_the_distance_needs_no_build() -> None:
    student, teacher = maps(3, 4), maps(3, 4)
    torch.testing.assert_close(MSE().distance(student, teacher, batch_of(4)), ((student - teacher) ** 2).mean())
