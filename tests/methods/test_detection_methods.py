"""Every method that a detection table names, with that table's options, on a pair of tiny detectors."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import torch
from detection_pair import detection_setup
from golden_values import batch_of, built, pair_of, shapes_of
from test_contract import is_finite, moment, total
from test_golden_fgd import batch_with
from test_plain_losses import check, normal, reference
from torch.nn import functional as F

from benchmark.errors import CannotServe
from benchmark.models.taps import resolve_roles
from benchmark.paper.manifest import load, suite_path
from benchmark.paper.suite import method_of
from methods.base import Method, Moment, Pair
from methods.diffkd.diffkd import Branch
from methods.fitnet import FitNet
from methods.kd import KD
from methods.mse import MSE
from methods.spec import MethodSpec

SUITES = ("table4", "table5", "table12", "section_c5", "figure2")


@cache
def written() -> dict[str, MethodSpec]:
    found = {}
    for name in SUITES:
        for cell in load(suite_path(name)).cells:
            if cell.setting.subject != "teacher":
                spec = method_of(cell.setting)
                found[json.dumps(spec.as_yaml(), sort_keys=True)] = spec
    return {key: spec for key, spec in found.items() if spec.needs_teacher}


def made(spec: MethodSpec, seed: int = 0) -> tuple[Method, Any]:
    on = detection_setup()
    method = spec.make()
    resolve_roles(method.taps, on.pair.student_shapes)
    return on.build(method, seed), on


@pytest.mark.parametrize("shown", written())
def test_gradients_reach_the_student_and_the_side_networks_and_never_the_teacher(shown: str) -> None:
    method, on = made(written()[shown])
    losses = method.losses(*on.outputs(), on.batch, moment())
    assert is_finite(losses)
    total(losses).backward()
    assert sum(float(p.grad.abs().sum()) for p in on.student.parameters() if p.grad is not None) > 0
    idle = [name for name, parameter in method.named_parameters() if parameter.grad is None]
    assert not idle
    assert all(parameter.grad is None for parameter in on.pair.teacher.parameters())


@pytest.mark.parametrize("shown", [name for name in written() if '"diffkd"' in name and "unet" not in name])
def test_diffkd_can_be_overfitted_and_is_drawn_from_its_own_generator(shown: str) -> None:
    method, on = made(written()[shown])
    optimiser = torch.optim.Adam([*on.student.parameters(), *method.parameters()], lr=1e-2)
    values = []
    for _ in range(15):
        loss = total(method.losses(*on.outputs(), on.batch, moment()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(float(loss.detach()))
    assert values[-1] < 0.8 * values[0]
    before = torch.get_rng_state()
    method.losses(*on.outputs(), on.batch, moment())
    assert torch.equal(torch.get_rng_state(), before)


def test_diffkd_makes_a_branch_of_each_role_of_each_pattern_without_an_autoencoder() -> None:
    roles = ["fpn.0", "fpn.1", "cls_scores.0", "cls_scores.1", "bbox_preds.0", "bbox_preds.1"]
    taps = ["bbox_preds.*", "fpn.*", "cls_scores.*"]
    method, on = made(MethodSpec.parse({"diffkd": {"branches": ["feature"], "feature_tap": taps}}))
    branches = [branch for branch in method.get_submodule("branches").children() if isinstance(branch, Branch)]
    assert [branch.role for branch in branches] == roles  # the network's order
    assert all(branch.autoencoder is None for branch in branches)
    tracked = method.losses(*on.outputs(), on.batch, moment()).tracked
    assert [tensor.shape for tensor in tracked.values()] == [(2,)] * len(roles)


def test_one_tap_keeps_the_options_and_so_the_identity_that_it_had() -> None:
    assert MethodSpec.parse({"diffkd": {"feature_tap": "pre_pool"}}).as_yaml() == {"diffkd": {}}
    assert MethodSpec.parse({"diffkd": {"feature_tap": "fpn.*"}}).as_yaml() == {"diffkd": {"feature_tap": "fpn.*"}}


# The attention-based error


@pytest.mark.parametrize("attention", ["spatial", "channel", "both"])
def test_attention_based_error_equals_a_plain_loop(attention: str) -> None:
    draw = torch.Generator().manual_seed(1)
    student, teacher = normal(draw, 2, 3, 4, 5), normal(draw, 2, 3, 4, 5)
    plain, expected = reference("fgd"), 0.0
    for s, t in zip(student, teacher, strict=True):
        where = plain.spatial(t, 0.3) if attention != "channel" else [[1.0] * 5 for _ in range(4)]
        which = plain.channel(t, 0.3) if attention != "spatial" else [1.0] * 3
        for c in range(3):
            for y in range(4):
                expected += sum(
                    where[y][x] * which[c] * float(s[c, y, x] - t[c, y, x]) ** 2 / student.numel() for x in range(5)
                )
    options = MSE.Options(attention=attention, temperature=0.3)
    check(MSE(options).distance(student, teacher, batch_of(2)), expected)


def test_flat_attention_is_the_plain_error() -> None:
    teacher = torch.ones(2, 3, 4, 5, dtype=torch.float64)
    student = normal(torch.Generator().manual_seed(2), 2, 3, 4, 5)
    found = MSE(MSE.Options(attention="both")).distance(student, teacher, batch_of(2))
    torch.testing.assert_close(found, F.mse_loss(student, teacher))


def test_objects_count_by_their_area_and_the_background_half() -> None:
    draw = torch.Generator().manual_seed(3)
    student, teacher = normal(draw, 2, 3, 4, 4), normal(draw, 2, 3, 4, 4)
    boxes = [torch.tensor([[0.0, 0.0, 16.0, 16.0]]), torch.zeros(0, 4)]  # 3 x 3 cells; nothing
    batch = batch_with([box.double() for box in boxes], (32, 32))
    error = (student - teacher).square().mean(dim=1)
    first = error[0, :3, :3].sum() / 9 + (error[0].sum() - error[0, :3, :3].sum()) / 7 / 2
    expected = (first + error[1].sum() / 16 / 2) / 2
    found = MSE(MSE.Options(objects=True)).distance(student, teacher, batch)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_what_attention_cannot_weigh_is_refused() -> None:
    vectors = {"embedding": (8,)}
    with pytest.raises(CannotServe, match="of maps"):
        MSE(MSE.Options(tap="embedding", attention="both")).build(pair_of(vectors, vectors))
    maps = {"fpn.0": (8, 2, 2)}
    with pytest.raises(CannotServe, match="ground-truth boxes"):
        MSE(MSE.Options(tap="fpn.0", objects=True)).build(pair_of(maps, maps))


# Scores and hints of several levels


def test_sigmoid_scores_are_compared_one_by_one_and_levels_added_up() -> None:
    draw = torch.Generator().manual_seed(4)
    student, teacher = ({f"cls_scores.{i}": normal(draw, 2, 6, 3, 2) for i in range(2)} for _ in range(2))
    options = KD.Options(tap="cls_scores.*", scores="sigmoid", temperature=2.0, weight=1.0)
    expected = 0.0
    for role in student:
        p, q = (torch.sigmoid(outputs[role] / 2) for outputs in (teacher, student))
        expected += float(4 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean())
    check(KD(options).losses(student, teacher, batch_of(2), moment()).terms["kd"], expected)


@pytest.mark.parametrize("method", [MSE(MSE.Options(tap="fpn.*")), FitNet(FitNet.Options(hint="fpn.*"))])
def test_levels_have_side_networks_of_their_own_and_their_errors_are_added_up(method: Method) -> None:
    draw = torch.Generator().manual_seed(5)
    student, teacher = ({f"fpn.{i}": normal(draw, 2, 4, 3, 2) for i in range(2)} for _ in range(2))
    pair: Pair = pair_of(shapes_of(student), shapes_of(teacher))
    both = total(built(method, pair).losses(student, teacher, batch_of(2), moment()))
    parts = (*(method.projections if isinstance(method, MSE) else method.regressors),)
    assert len(parts) == 2
    assert parts[0] is not parts[1]
    one_by_one = [F.mse_loss(part(student[f"fpn.{i}"]), teacher[f"fpn.{i}"]) for i, part in enumerate(parts)]
    weight = 1.0 if isinstance(method, MSE) else 100.0
    torch.testing.assert_close(both.double(), weight * sum(one_by_one), rtol=1e-6, atol=0)


def test_a_regressor_that_is_not_activated_reaches_negative_values() -> None:
    shapes = {"fpn.0": (4, 3, 3)}
    method = built(FitNet(FitNet.Options(hint="fpn.0", activated=False)), pair_of(shapes, shapes))
    maps = normal(torch.Generator().manual_seed(6), 2, 4, 3, 3)
    assert method.regressors[0](maps).min() < 0
    assert [name for name, _ in method.named_parameters()] == ["regressors.0.conv.weight", "regressors.0.conv.bias"]


def test_a_moment_without_a_step_still_serves_what_needs_none() -> None:
    now = Moment(torch.tensor(0.0), torch.tensor(0.0), torch.Generator())
    assert float(now.ramp(0)) == 1.0
