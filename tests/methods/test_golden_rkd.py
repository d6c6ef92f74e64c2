import torch
from golden_values import Golden, batch_of, moment_at, total

from methods.rkd import RKD


def test_loss_and_gradient() -> None:
    golden = Golden("rkd")
    weights = {key: golden.meta[key] for key in ("distance_weight", "angle_weight")}
    options = RKD.Options(squared=True, **weights)  # the reference values were made with squared distances
    student = golden.leaf("student_feature")
    outputs = {"embedding": student}, {"embedding": golden["teacher_feature"]}
    loss = total(RKD(options).losses(*outputs, batch_of(8), moment_at()))
    loss.backward()
    golden.check(loss, "loss")
    golden.check(student.grad, "grad_student")
    golden.check(RKD(options).distance(student, golden["teacher_feature"], batch_of(8)), "loss")


def test_equal_samples_give_finite_gradients() -> None:
    student = torch.ones(4, 3, requires_grad=True)
    RKD().distance(student, torch.randn(4, 5), batch_of(4)).backward()
    assert torch.isfinite(student.grad).all()
