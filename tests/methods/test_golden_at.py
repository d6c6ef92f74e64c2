import pytest
import torch
from golden_values import Golden, batch_of, built, moment_at, pair_of, shapes_of, total
from torch.nn import functional as F

from methods.at import AT


def test_loss_and_gradients() -> None:
    golden = Golden("at")
    student = {f"stage{i + 1}": golden.leaf(f"student_{i}") for i in range(3)}
    teacher = {f"stage{i + 1}": golden[f"teacher_{i}"] for i in range(3)}
    method = built(AT(AT.Options(weight=1.0, p=golden.meta["p"])), pair_of(shapes_of(student), shapes_of(teacher)))
    loss = total(method.losses(student, teacher, batch_of(8), moment_at()))
    loss.backward()
    golden.check(loss, "loss")
    for i in range(3):
        golden.check(student[f"stage{i + 1}"].grad, f"grad_student_{i}")


def test_the_larger_map_is_pooled() -> None:
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 8, 8)
    found = AT().distance(student, teacher, batch_of(2))
    torch.testing.assert_close(found, AT().distance(student, F.avg_pool2d(teacher, 2), batch_of(2)))


@pytest.mark.parametrize("counts", [(3, 4), (4, 3)])
def test_unequal_counts_match_the_shallowest(counts: tuple[int, int]) -> None:
    student, teacher = ({f"stage{i}": torch.randn(2, 3, 4, 4) for i in range(1, n + 1)} for n in counts)
    method = built(AT(AT.Options(weight=1.0)), pair_of(shapes_of(student), shapes_of(teacher)))
    expected = sum(method.distance(student[f"stage{i}"], teacher[f"stage{i}"], batch_of(2)) for i in (1, 2, 3))
    found = total(method.losses(student, teacher, batch_of(2), moment_at()))
    torch.testing.assert_close(found, expected.double())
