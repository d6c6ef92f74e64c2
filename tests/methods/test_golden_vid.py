import pytest
import torch
from golden_values import Golden, batch_of, built, moment_at, pair_of, shapes_of, total
from torch.nn import functional as F

from methods.vid import VID

NAMES = {"regressors.0.mean.": "regressor.", "regressors.0.log_scale": "log_scale"}


@pytest.mark.parametrize("name", ["vid_same", "vid_student_larger", "vid_teacher_larger"])
def test_loss_and_gradients(name: str) -> None:
    golden = Golden(name)
    student, teacher = {"stage1": golden.leaf("student_feature")}, {"stage1": golden["teacher_feature"]}
    method = built(VID(), pair_of(shapes_of(student), shapes_of(teacher)))
    golden.load_into(method, NAMES)
    loss = total(method.losses(student, teacher, batch_of(4), moment_at()))
    loss.backward()
    golden.check(loss, "loss")
    golden.check(student["stage1"].grad, "grad_student")
    golden.check_gradients(method, NAMES)


def test_the_variance_starts_where_the_option_says_and_is_trained() -> None:
    shapes = {"stage1": (3, 4, 4), "stage2": (5, 2, 2)}
    method = built(VID(VID.Options(variance=2.0)), pair_of(shapes, shapes))
    trained = {id(p) for module in method.trainable_modules() for p in module.parameters()}
    for regressor in method.regressors:
        start = F.softplus(regressor.log_scale) + 1e-5
        torch.testing.assert_close(start, torch.full_like(start, 2.0), rtol=1e-6, atol=0)
        assert id(regressor.log_scale) in trained


def test_stages_add_up() -> None:
    student = {f"stage{i}": torch.randn(2, 3, 4, 4).double() for i in (1, 2)}
    teacher = {f"stage{i}": torch.randn(2, 5, 4, 4).double() for i in (1, 2, 3)}
    method = built(VID(VID.Options(weight=0.5)), pair_of(shapes_of(student), shapes_of(teacher)))
    parts = [method.regressors[i](student[f"stage{i + 1}"], teacher[f"stage{i + 1}"]) for i in range(2)]
    found = total(method.losses(student, teacher, batch_of(2), moment_at()))
    torch.testing.assert_close(found, 0.5 * (parts[0] + parts[1]))
