import pytest
from golden_values import Golden, batch_of, moment_at, total

from methods.dist import DIST


@pytest.mark.parametrize("name", ["dist_b1_g1_tau1", "dist_b2_g2_tau4"])
def test_loss_and_gradient(name: str) -> None:
    golden = Golden(name)
    student = golden.leaf("student_logits")
    method = DIST(DIST.Options(**{key: golden.meta[key] for key in ("beta", "gamma", "tau")}))
    outputs = {"logits": student}, {"logits": golden["teacher_logits"]}
    loss = total(method.losses(*outputs, batch_of(8), moment_at()))
    loss.backward()
    golden.check(loss, "loss")
    golden.check(student.grad, "grad_student")


def test_weight_two_is_beta_and_gamma_two() -> None:
    golden = Golden("dist_b2_g2_tau4")
    outputs = {"logits": golden["student_logits"]}, {"logits": golden["teacher_logits"]}
    method = DIST(DIST.Options(weight=2.0, tau=4.0))
    golden.check(total(method.losses(*outputs, batch_of(8), moment_at())), "loss")


def test_in_a_map_every_position_is_a_row() -> None:
    golden = Golden("dist_seg")
    student = golden.leaf("student_map")
    loss = DIST().distance(student, golden["teacher_map"], batch_of(2))
    loss.backward()
    golden.check(loss, "loss")
    golden.check(student.grad, "grad_student")
