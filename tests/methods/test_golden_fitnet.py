import pytest
import torch
from golden_values import Golden, batch_of, built, moment_at, pair_of, shapes_of, total

from benchmark.errors import CannotServe
from methods.fitnet import FitNet

NAMES = {"regressors.0.": ""}


@pytest.mark.parametrize("name", ["fitnet_same", "fitnet_student_larger", "fitnet_teacher_larger"])
def test_loss_and_gradients_of_the_three_regressors(name: str) -> None:
    golden = Golden(name)
    student, teacher = {"stage2": golden.leaf("student_feature")}, {"stage2": golden["teacher_feature"]}
    method = built(FitNet(FitNet.Options(weight=1.0)), pair_of(shapes_of(student), shapes_of(teacher)))
    golden.load_into(method, NAMES)
    loss = total(method.losses(student, teacher, batch_of(4), moment_at()))
    loss.backward()
    golden.check(loss, "loss")
    golden.check(student["stage2"].grad, "grad_student")
    golden.check_gradients(method, NAMES)


@pytest.mark.parametrize("resize", ["pool", "interpolate"])
@pytest.mark.parametrize(("student_side", "teacher_side"), [(12, 3), (2, 8), (7, 5)])
def test_other_ratios_train_too(student_side: int, teacher_side: int, resize: str) -> None:
    student = {"stage1": torch.randn(2, 5, student_side, student_side, requires_grad=True)}
    teacher = {"stage1": torch.randn(2, 6, teacher_side, teacher_side)}
    method = FitNet(FitNet.Options(hint="stage1", resize=resize))
    assert method.taps == ("stage1",)
    method.build(pair_of(shapes_of(student), shapes_of(teacher)))
    total(method.losses(student, teacher, batch_of(2), moment_at())).backward()
    assert student["stage1"].grad.abs().sum() > 0


def test_a_vector_is_no_hint() -> None:
    shapes = {"embedding": (8,)}
    with pytest.raises(CannotServe, match="not two maps"):
        FitNet(FitNet.Options(hint="embedding")).build(pair_of(shapes, shapes))
