import pytest
import torch
from golden_values import Golden, batch_of, moment_at, total

from methods.dkd import DKD

GOLDEN = ["dkd_a1_b0.5_T1", "dkd_a1_b2_T4", "dkd_a1_b8_T4"]


def options_of(golden: Golden) -> DKD.Options:
    return DKD.Options(**{key: golden.meta[key] for key in ("alpha", "beta", "temperature")})


@pytest.mark.parametrize("name", GOLDEN)
def test_loss_and_gradient_after_the_warm_up(name: str) -> None:
    golden = Golden(name)
    student = golden.leaf("student_logits")
    batch = batch_of(len(student), golden["target"])
    loss = total(
        DKD(options_of(golden)).losses({"logits": student}, {"logits": golden["teacher_logits"]}, batch, moment_at())
    )
    loss.backward()
    golden.check(loss, "loss")
    golden.check(student.grad, "grad_student")


def test_distance_is_the_loss_without_weight_and_warm_up() -> None:
    golden = Golden(GOLDEN[1])
    batch = batch_of(8, golden["target"])
    golden.check(DKD(options_of(golden)).distance(golden["student_logits"], golden["teacher_logits"], batch), "loss")


def test_a_map_is_its_positions_as_rows() -> None:
    golden = Golden(GOLDEN[1])
    as_map = [golden[f"{who}_logits"].reshape(2, 2, 2, 20).permute(0, 3, 1, 2) for who in ("student", "teacher")]
    batch = batch_of(2, golden["target"].reshape(2, 2, 2))
    golden.check(DKD(options_of(golden)).distance(*as_map, batch), "loss")


@pytest.mark.parametrize(("epoch", "factor"), [(0, 1 / 20), (9, 0.5), (19, 1.0), (20, 1.0)])
def test_warm_up_counts_the_first_epoch_as_one(epoch: int, factor: float) -> None:
    golden = Golden(GOLDEN[1])
    outputs = {"logits": golden["student_logits"]}, {"logits": golden["teacher_logits"]}
    batch = batch_of(8, golden["target"])
    loss = total(DKD(options_of(golden)).losses(*outputs, batch, moment_at(epoch)))
    torch.testing.assert_close(loss, factor * golden["loss"], rtol=1e-6, atol=0)
    without = DKD.Options(**options_of(golden).model_dump() | {"warmup_epochs": 0})
    golden.check(total(DKD(without).losses(*outputs, batch, moment_at(epoch))), "loss")


def test_a_certain_student_gives_finite_gradients() -> None:
    student = torch.tensor([[200.0, -200.0, 0.0]], requires_grad=True)
    DKD().distance(student, torch.tensor([[0.0, 1.0, 2.0]]), batch_of(1)).backward()
    assert torch.isfinite(student.grad).all()
