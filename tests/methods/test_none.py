from __future__ import annotations

from golden_values import batch_of, moment_at

from methods.registry import method


def test_the_plain_student_sees_no_teacher_and_adds_nothing() -> None:
    entry = method("none")
    assert not entry.needs_teacher
    losses = entry.load()().losses({}, {}, batch_of(2), moment_at())
    assert not losses.terms
    assert losses.task_weight == 1
