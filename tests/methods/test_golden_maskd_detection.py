from __future__ import annotations

from pathlib import Path

import pytest
import torch
from golden_values import Golden, batch_of, built, moment_at, pair_of, shapes_of
from torch import Tensor, nn

from benchmark.errors import CannotServe, MissingInput
from methods.base import Moment
from methods.maskd import masked_errors
from methods.maskd_detection import Level, MasKDDetection, weighted
from methods.spec import MethodSpec

NAMES = {
    f"levels.{n}.{ours}": f"mask_modules.{n}.{theirs}"
    for n in range(2)
    for ours, theirs in (("tokens", "mask_token"), ("weigh.", "prob."))
}
CASES = {"maskd_det": 0, "maskd_det_custom": 10}  # the steps that are done, of a warm-up of ten
AT_TEN = {"custom_mask_warmup": 10}


def moment_after(steps: int) -> Moment:
    when = moment_at()
    return Moment(when.epoch, when.progress, when.generator, step=torch.tensor(float(steps)))


def maps_of(golden: Golden, whose: str) -> dict[str, Tensor]:
    found = {f"fpn.{n}": golden[f"{whose}_{n}"].clone() for n in range(2)}
    return {role: tensor.requires_grad_(whose == "student") for role, tensor in found.items()}


def aligned(method: MasKDDetection) -> MasKDDetection:
    """The reference's values are of maps that were aligned before."""
    for conv in method.align:
        assert isinstance(conv, nn.Conv2d) and conv.bias is not None
        nn.init.dirac_(conv.weight)
        nn.init.zeros_(conv.bias)
    return method


def case(name: str, **options: object) -> tuple[Golden, MasKDDetection, dict[str, Tensor], dict[str, Tensor]]:
    golden = Golden(name)
    student, teacher = maps_of(golden, "student"), maps_of(golden, "teacher")
    given = MasKDDetection.Options.model_validate(AT_TEN | options)
    method = built(MasKDDetection(given), pair_of(shapes_of(student), shapes_of(teacher)))
    assert isinstance(method, MasKDDetection)
    return golden, aligned(method), student, teacher


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients(name: str) -> None:
    golden, method, student, teacher = case(name)
    golden.load_into(method, {**NAMES, "align.": "none."})
    loss = method.losses(student, teacher, batch_of(2), moment_after(CASES[name])).terms["masked"]
    loss.backward()
    golden.check(loss, "loss")
    for n in range(2):
        golden.check(student[f"fpn.{n}"].grad, f"grad_student_{n}")
    assert all(parameter.grad is None for parameter in method.levels.parameters()), "tokens learn from their own terms"


@pytest.mark.parametrize("name", CASES)
def test_what_the_masks_and_weights_do_to_the_loss(name: str) -> None:
    """By their gradients, which the reference would have if its tokens were not fixed."""
    golden, method, student, teacher = case(name)
    golden.load_into(method, {**NAMES, "align.": "none."})
    terms = []
    for level, role in zip(method.levels, student, strict=True):
        assert isinstance(level, Level)
        masks = level.masks(teacher[role])
        masks = masks * level.masks(student[role]).detach() if CASES[name] else masks
        errors = masked_errors(masks, student[role], teacher[role])
        terms.append(weighted(errors, level.weights(teacher[role])))
    torch.stack(terms).sum().backward()
    golden.check_gradients(method.levels, {ours.removeprefix("levels."): theirs for ours, theirs in NAMES.items()})


def test_the_mask_becomes_the_students_too_when_the_warmup_is_over() -> None:
    _, method, student, teacher = case("maskd_det")
    values = [
        float(method.losses(student, teacher, batch_of(2), moment_after(step)).terms["masked"].detach())
        for step in (0, 9, 10, 100)
    ]
    assert values[0] == values[1] != values[2] == values[3]
    _, never, *_ = case("maskd_det", custom_mask=False)
    never.load_state_dict(method.state_dict())
    late = never.losses(student, teacher, batch_of(2), moment_after(100)).terms["masked"]
    assert float(late.detach()) == values[0]


def saved(golden: Golden, path: Path, prefix: str) -> Path:
    state = {
        prefix + name.removeprefix("param__"): tensor
        for name, tensor in golden.tensors.items()
        if name.startswith("param__")
    }
    torch.save({"state_dict": {**state, "neck.conv.weight": torch.zeros(1)}}, path)
    return path


@pytest.mark.parametrize("prefix", ["", "module."])
def test_learned_tokens_are_those_of_the_file_and_stay(tmp_path: Path, prefix: str) -> None:
    path = saved(Golden("maskd_det"), tmp_path / "tokens.pth", prefix)
    golden, method, student, teacher = case("maskd_det", learned=str(path))
    terms = method.losses(student, teacher, batch_of(2), moment_after(0)).terms
    assert list(terms) == ["masked"]
    torch.testing.assert_close(terms["masked"].detach(), golden["loss"], rtol=1e-6, atol=0)  # float32 in between
    assert not [name for name, p in method.named_parameters() if p.requires_grad and not name.startswith("align.")]


def test_a_file_that_does_not_fit_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = saved(Golden("maskd_det"), tmp_path / "tokens.pth", "")
    with pytest.raises(MissingInput, match="does not hold 4 tokens for each of fpn") as caught:
        case("maskd_det", learned=str(path), count=4)
    assert "set `count`" in caught.value.fix
    with pytest.raises(MissingInput, match="no learned tokens at") as caught:
        case("maskd_det", learned=str(tmp_path / "nothing.pth"))
    assert "releases of MasKD" in caught.value.fix


def test_levels_of_other_sizes_are_refused() -> None:
    with pytest.raises(CannotServe, match="not two maps of one size"):
        MasKDDetection().build(pair_of({"fpn.0": (4, 3, 5)}, {"fpn.0": (4, 6, 10)}))


def test_tokens_start_small_and_weights_alike() -> None:
    shapes = {"fpn.0": (256, 3, 5)}
    torch.manual_seed(0)
    method = MasKDDetection()
    method.build(pair_of(shapes, shapes))
    (level,) = method.levels
    assert isinstance(level, Level)
    assert float(level.tokens.detach().std()) == pytest.approx(0.01, rel=0.1)
    first = level.weigh[0]
    assert isinstance(first, nn.Conv2d) and first.bias is not None
    assert float(first.weight.detach().std()) == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.01)
    assert not first.bias.any()


def test_its_terms_have_the_name_of_manifests_in_a_sum() -> None:
    parts = MethodSpec.parse("maskd_detection+regressionkd").make().get_submodule("parts")
    assert [name for name, _ in parts.named_children()] == ["maskd_detection", "regressionkd"]
