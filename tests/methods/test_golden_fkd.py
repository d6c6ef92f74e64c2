from __future__ import annotations

import pytest
from golden_values import Golden, batch_of, built, moment_at, pair_of, shapes_of, total
from torch import Tensor

from benchmark.errors import CannotServe
from methods.base import Method
from methods.fkd import FKD

BLOCK = {
    "value": "g.0.0.conv",
    "query": "theta.conv",
    "key": "phi.0.0.conv",
    "out": "conv_out.conv",
    "norm": "conv_out.bn",
}
ADAPTATIONS = {
    "feature": "adaptation_layers",
    "channel": "channel_wise_adaptation",
    "spatial": "spatial_wise_adaptation",
    "relation": "non_local_adaptation",
}
NAMES = {f"pyramid.{i}.{ours}.": f"student_{i}.{theirs}." for i in (0, 1) for ours, theirs in ADAPTATIONS.items()} | {
    f"pyramid.{i}.{whose}_relation.{ours}.": f"{whose}_{i}.{whose}_non_local.{theirs}."
    for i in (0, 1)
    for whose in ("student", "teacher")
    for ours, theirs in BLOCK.items()
}
TERMS = ("feature", "channel", "spatial", "nonlocal")


def case(name: str, **options: float) -> tuple[Golden, Method, dict[str, Tensor], dict[str, Tensor]]:
    golden = Golden(name)
    student = {f"fpn.{i}": golden.leaf(f"student_{i}") for i in (0, 1)}
    teacher = {f"fpn.{i}": golden[f"teacher_{i}"] for i in (0, 1)}
    levels = golden.meta["levels"]
    chosen = FKD.Options(
        temperature=golden.meta["temperature"],
        channel_mask=name == "fkd_one_stage",
        reductions=tuple(level["reduction"] for level in levels),
        # mmrazor's block, which gave the values, pools by two by itself and then with its stride.
        strides=tuple(2 * level["pool_stride"] for level in levels),
        **options,
    )
    method = built(FKD(chosen), pair_of(shapes_of(student), shapes_of(teacher)))
    golden.load_into(method, NAMES)
    return golden, method, student, teacher


@pytest.mark.parametrize("name", ["fkd", "fkd_one_stage"])
def test_loss_and_gradients(name: str) -> None:
    weights = {f"{key.rstrip('_')}_weight": value for key, value in Golden(name).meta["weights"].items()}
    golden, method, student, teacher = case(name, **weights)
    loss = total(method.losses(student, teacher, batch_of(2), moment_at()))
    loss.backward()
    golden.check(loss, "loss")
    for i in (0, 1):
        golden.check(student[f"fpn.{i}"].grad, f"grad_student_{i}")
    golden.check_gradients(method, NAMES)


@pytest.mark.parametrize("name", ["fkd", "fkd_one_stage"])
def test_each_term_of_each_level(name: str) -> None:
    golden, method, student, teacher = case(name)
    for i in (0, 1):
        found = method.pyramid[i](student[f"fpn.{i}"], teacher[f"fpn.{i}"], method.options)
        for term in TERMS:
            golden.check(found[term], f"term_{term}_{i}")


def test_the_two_settings_are_those_of_the_defaults_and_of_the_docstring() -> None:
    two = {f"{key.rstrip('_')}_weight": value for key, value in Golden("fkd").meta["weights"].items()}
    one = {f"{key.rstrip('_')}_weight": value for key, value in Golden("fkd_one_stage").meta["weights"].items()}
    defaults = FKD.Options().model_dump()
    assert {key: defaults[key] for key in two} == two
    assert one == pytest.approx({key: 6 * value for key, value in two.items()})


def test_levels_beyond_the_last_option_take_the_last() -> None:
    shapes = {f"fpn.{i}": (8, 2, 2) for i in range(3)}
    method = FKD(FKD.Options(reductions=(4, 2), strides=(2,)))
    method.build(pair_of(shapes, shapes))
    assert [level.student_relation.query.out_channels for level in method.pyramid] == [2, 4, 4]
    assert [level.student_relation.stride for level in method.pyramid] == [2, 2, 2]


def test_a_channel_mask_of_unequal_widths_is_refused() -> None:
    pair = pair_of({"fpn.0": (4, 2, 2)}, {"fpn.0": (8, 2, 2)})
    with pytest.raises(CannotServe, match="channel mask"):
        FKD(FKD.Options(channel_mask=True)).build(pair)
