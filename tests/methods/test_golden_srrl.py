import pytest
import torch
from golden_values import Golden, batch_of, built, moment_at, pair_of, shapes_of, total
from torch import Tensor, nn

from benchmark.errors import CannotServe
from methods.srrl import SRRL

NAMES = {"connector.": "Connectors."}


def classifier_of(golden: Golden) -> nn.Linear:
    classes, channels = golden["teacher_fc_weight"].shape
    classifier = nn.Linear(channels, classes).double()
    classifier.load_state_dict({"weight": golden["teacher_fc_weight"], "bias": golden["teacher_fc_bias"]})
    return classifier


def case(golden: Golden, **options: float) -> tuple[SRRL, dict[str, Tensor], dict[str, Tensor]]:
    student = {"pre_pool": golden.leaf("student_feature")}
    teacher = {"pre_pool": golden["teacher_feature"], "logits": golden["teacher_logits"]}
    pair = pair_of(shapes_of(student), shapes_of(teacher), classifier=classifier_of(golden))
    method = built(SRRL(SRRL.Options(**options)), pair)
    golden.load_into(method, NAMES)
    return method, student, teacher


def test_losses_and_gradients() -> None:
    golden = Golden("srrl")
    method, student, teacher = case(golden)
    losses = method.losses(student, teacher, batch_of(4), moment_at())
    total(losses).backward()
    golden.check(losses.terms["feature"], "loss_feature")
    golden.check(losses.terms["regression"], "loss_regression")
    golden.check(total(losses), "loss")
    golden.check(student["pre_pool"].grad, "grad_student")
    golden.check_gradients(method, NAMES)


def test_the_teachers_classifier_travels_with_the_method_and_is_not_trained() -> None:
    method, *_ = case(Golden("srrl"))
    assert {"classifier_weight", "classifier_bias"} <= set(method.state_dict())
    trained = [name for name, _ in method.named_parameters()]
    assert trained and all(name.startswith("connector.") for name in trained)


def test_maps_of_unequal_size_need_no_resizing() -> None:
    golden = Golden("srrl")
    method, student, teacher = case(golden, feature_weight=2.0)
    larger = teacher["pre_pool"].repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    losses = method.losses(student, teacher | {"pre_pool": larger}, batch_of(4), moment_at())
    torch.testing.assert_close(losses.terms["feature"].detach(), 2 * golden["loss_feature"], rtol=1e-9, atol=0)


def test_a_classifier_of_another_width_is_refused() -> None:
    shapes = {"pre_pool": (8, 2, 2), "logits": (5,)}
    with pytest.raises(CannotServe, match="no linear layer on its 8"):
        SRRL().build(pair_of(shapes, shapes, classifier=nn.Linear(16, 5)))
