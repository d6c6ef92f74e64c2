import torch
from golden_values import Golden, batch_of, moment_at, total

from methods.pkt import PKT


def test_loss_and_gradient() -> None:
    golden = Golden("pkt")
    student = golden.leaf("student_feature")
    outputs = {"embedding": student}, {"embedding": golden["teacher_feature"]}
    loss = total(PKT(PKT.Options(weight=1.0)).losses(*outputs, batch_of(8), moment_at()))
    loss.backward()
    golden.check(loss, "loss")
    golden.check(student.grad, "grad_student")
    golden.check(PKT().distance(student, golden["teacher_feature"], batch_of(8)), "loss")


def test_a_silent_sample_gives_finite_gradients() -> None:
    student = torch.zeros(4, 3, requires_grad=True)
    PKT().distance(student, torch.randn(4, 5), batch_of(4)).backward()
    assert torch.isfinite(student.grad).all()
