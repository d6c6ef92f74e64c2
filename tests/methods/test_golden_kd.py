"""KD against reference values (mdistiller @ a08d46f)."""

from __future__ import annotations

import pytest
import torch
from golden_values import Golden, batch_of, moment_at

from methods.kd import KD


@pytest.mark.parametrize("temperature", [1, 4])
def test_loss_and_gradient_equal_the_reference(temperature: int) -> None:
    golden = Golden(f"kd_T{temperature}")
    student = golden.leaf("student_logits")
    method = KD(KD.Options(temperature=temperature, weight=1.0))
    losses = method.losses({"logits": student}, {"logits": golden["teacher_logits"]}, batch_of(8), moment_at())
    losses.terms["kd"].backward()
    golden.check(losses.terms["kd"], "loss")
    golden.check(student.grad, "grad_student")


def test_the_weights_are_those_of_the_source() -> None:
    golden = Golden("kd_T4")
    student, teacher = ({"logits": golden[f"{who}_logits"]} for who in ("student", "teacher"))
    losses = KD().losses(student, teacher, batch_of(8), moment_at())
    golden.check(losses.terms["kd"] / 0.9, "loss")
    assert losses.task_weight == 0.1


def test_maps_are_averaged_over_their_positions() -> None:
    student, teacher = torch.randn(2, 3, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    apart = [KD().distance(student[:, :, i, j], teacher[:, :, i, j], batch_of(3)) for i in range(4) for j in range(4)]
    torch.testing.assert_close(KD().distance(student, teacher, batch_of(3)), torch.stack(apart).mean())
