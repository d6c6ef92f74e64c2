import pytest
from golden_values import Golden, batch_of, built, moment_at, pair_of, shapes_of, total

from benchmark.errors import CannotServe
from methods.cwd import CWD
from methods.kd import KD


@pytest.mark.parametrize("name", ["cwd_T1", "cwd_T4"])
def test_class_scores(name: str) -> None:
    golden = Golden(name)
    student, teacher = {"seg_logits": golden.leaf("student_map")}, {"seg_logits": golden["teacher_map"]}
    options = CWD.Options(
        temperature=golden.meta["temperature"], feature_weight=0.0, logits_weight=1.0, pixel_weight=0.0
    )
    method = built(CWD(options), pair_of(shapes_of(student), shapes_of(teacher)))
    assert method.taps == ("seg_logits",)
    loss = total(method.losses(student, teacher, batch_of(2), moment_at()))
    loss.backward()
    golden.check(loss, "loss")
    golden.check(student["seg_logits"].grad, "grad_student")
    golden.check(method.distance(student["seg_logits"], teacher["seg_logits"], batch_of(2)), "loss")


def test_features_are_widened_and_divided_by_the_students_channels() -> None:
    golden = Golden("cwd_feature_T4")
    student, teacher = {"seg_feature": golden.leaf("student_map")}, {"seg_feature": golden["teacher_map"]}
    # The class scores are equal, so their terms are zero.
    scores = {"seg_logits": golden["teacher_map"]}
    options = CWD.Options(temperature=4.0, feature_weight=1.0)
    method = built(CWD(options), pair_of(shapes_of(student | scores), shapes_of(teacher | scores)))
    golden.load_into(method, {"align.": "conv."})
    losses = method.losses(student | scores, teacher | scores, batch_of(2), moment_at())
    total(losses).backward()
    golden.check(losses.terms["feature"], "loss")
    golden.check(student["seg_feature"].grad, "grad_student")
    golden.check_gradients(method, {"align.": "conv."})


def test_pixel_kd() -> None:
    golden = Golden("seg_pixel_kd_T1")
    student, teacher = {"seg_logits": golden.leaf("student_map")}, {"seg_logits": golden["teacher_map"]}
    method = built(CWD(CWD.Options(feature_weight=0.0)), pair_of(shapes_of(student), shapes_of(teacher)))
    loss = method.losses(student, teacher, batch_of(2), moment_at()).terms["pixel"]
    loss.backward()
    golden.check(loss, "loss")
    golden.check(student["seg_logits"].grad, "grad_student")


def test_pixel_kd_is_what_kd_means_on_maps() -> None:
    golden = Golden("seg_pixel_kd_T1")
    kd = KD(KD.Options(temperature=1.0))
    golden.check(kd.distance(golden["student_map"], golden["teacher_map"], batch_of(2)), "loss")


def test_maps_of_two_sizes_are_refused() -> None:
    with pytest.raises(CannotServe, match="not of one size"):
        CWD().build(
            pair_of(
                {"seg_feature": (4, 8, 8), "seg_logits": (3, 8, 8)}, {"seg_feature": (4, 4, 4), "seg_logits": (3, 4, 4)}
            )
        )
