"""What every registered method must do. A new method joins by being in `methods/`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

import pytest
import torch
from pairs import BATCH_SIZE, STUDENT_WIDTHS, setup, tiny_network
from segmentation_pair import segmentation_setup
from torch import Tensor
from trials import LATE, OTHER_OPTIONS, PAIRS, Trial, moment, why_not

from benchmark.models.taps import resolve_roles
from methods.base import Losses, Method
from methods.options import MethodOptions
from methods.registry import methods

ENTRIES = methods()
WRAPPING = [name for name, entry in ENTRIES.items() if entry.load().wrap_student is not Method.wrap_student]
DISTILLING = [name for name, entry in ENTRIES.items() if entry.needs_teacher]
DISTANCES = [name for name, entry in ENTRIES.items() if entry.is_distance]


@pytest.fixture(params=PAIRS)
def on(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def cases(names: Iterable[str]) -> list[Any]:
    """Every method with its default options, and some with others."""
    plain = [pytest.param((name, {}), id=name) for name in names]
    return plain + [pytest.param(case, id=f"{case[0]} {case[1]}") for case in OTHER_OPTIONS.items()]


@pytest.fixture(params=cases(ENTRIES))
def trial(request: pytest.FixtureRequest, on: str) -> Trial:
    name, options = request.param
    return Trial(ENTRIES[name], on, options)


@pytest.fixture(params=cases(DISTILLING))
def distilling(request: pytest.FixtureRequest, on: str) -> Trial:
    name, options = request.param
    return Trial(ENTRIES[name], on, options)


@pytest.mark.parametrize("name", ENTRIES)
def test_every_method_serves_networks_with_maps_of_equal_size(name: str) -> None:
    reasons = [why_not(name, pair) for pair in ("equal", "detection", "segmentation")]
    assert not all(reasons), f"{name} serves none: {reasons}"


def total(losses: Losses) -> Tensor:
    return torch.stack([term.float() for term in losses.terms.values()]).sum()


def is_finite(losses: Losses) -> bool:
    return all(bool(value.isfinite().all()) for value in (*losses.terms.values(), *losses.tracked.values()))


def check_equal(found: Losses, expected: Losses) -> None:
    for ours, theirs in ((found.terms, expected.terms), (found.tracked, expected.tracked)):
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("epoch", [0.0, LATE])
def test_losses_are_finite_named_scalars(trial: Trial, epoch: float) -> None:
    losses = trial.losses(moment(epoch=epoch))
    assert bool(losses.terms) == trial.entry.needs_teacher
    assert all(term.shape == () for term in losses.terms.values())
    assert all(value.dim() <= 1 and not value.requires_grad for value in losses.tracked.values())
    assert is_finite(losses)


def test_gradients_reach_the_student_and_every_side_network(distilling: Trial) -> None:
    total(distilling.losses()).backward()
    student = [p.grad for p in distilling.setup.student.parameters() if p.grad is not None]
    assert sum(float(grad.abs().sum()) for grad in student) > 0
    modules: dict[str, float] = {}
    for name, parameter in distilling.trainable().items():
        assert parameter.grad is not None, f"{name} gets no gradient"
        module = ".".join(name.split(".")[:3])
        modules[module] = modules.get(module, 0.0) + float(parameter.grad.abs().sum())
    assert all(modules.values()), f"nothing flows into {[name for name, flow in modules.items() if not flow]}"


def test_the_method_owns_nothing_of_either_network(distilling: Trial) -> None:
    pair = distilling.setup.pair
    trained = distilling.setup.student
    networks = {id(p) for network in (pair.student, pair.teacher, trained) for p in network.parameters()}
    assert networks.isdisjoint(id(p) for p in distilling.trainable().values())
    assert networks.isdisjoint(id(p) for p in distilling.method.parameters())


def test_one_batch_can_be_overfitted_while_the_teacher_stays(distilling: Trial) -> None:
    pair = distilling.setup.pair
    teacher = deepcopy(pair.teacher.state_dict())
    trained = [*distilling.setup.student.parameters(), *distilling.trainable().values()]
    optimiser = torch.optim.Adam(trained, lr=2e-2)
    values: list[float] = []
    for _ in range(20):
        loss = total(distilling.losses())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(float(loss.detach()))
    # Most fall to a tenth. VID falls by a twentieth: its learned variances leave their initial 5 slowly.
    assert values[-1] < values[0] - 0.04 * abs(values[0]), f"{values[0]:.4g} became {values[-1]:.4g}"
    assert all(parameter.grad is None for parameter in pair.teacher.parameters())
    assert all(torch.equal(value, teacher[name]) for name, value in pair.teacher.state_dict().items())


def test_state_round_trips(distilling: Trial) -> None:
    student, teacher = distilling.setup.outputs()
    batch = distilling.setup.batch
    distilling.method.losses(student, teacher, batch, moment(seed=1))  # banks and running statistics move
    restored = distilling.fresh(seed=2)
    restored.load_state_dict(deepcopy(distilling.method.state_dict()))
    expected = distilling.method.losses(student, teacher, batch, moment(seed=3))
    check_equal(restored.losses(student, teacher, batch, moment(seed=3)), expected)


def test_one_generator_seed_gives_one_result_and_nothing_else_is_drawn(distilling: Trial) -> None:
    student, teacher = distilling.setup.outputs()
    twin = deepcopy(distilling.method)
    before = torch.get_rng_state()
    first = distilling.method.losses(student, teacher, distilling.setup.batch, moment(seed=5))
    assert torch.equal(torch.get_rng_state(), before), "the global generator was used"
    check_equal(twin.losses(student, teacher, distilling.setup.batch, moment(seed=5)), first)


def test_it_works_under_autocast(distilling: Trial) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = distilling.losses()
    total(losses).backward()
    assert is_finite(losses)
    grads = [p.grad for p in distilling.setup.student.parameters() if p.grad is not None]
    assert grads
    assert all(bool(grad.isfinite().all()) for grad in grads)


class Recording(Mapping[str, Tensor]):
    """Outputs that remember which of them were read."""

    def __init__(self, outputs: Mapping[str, Tensor]) -> None:
        self.outputs, self.read = outputs, set[str]()

    def __getitem__(self, role: str) -> Tensor:
        self.read.add(role)
        return self.outputs[role]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)


def test_taps_asked_for_are_taps_used(trial: Trial) -> None:
    asked = set(resolve_roles(trial.method.taps, trial.setup.pair.student_shapes))
    asked |= set(trial.method.added_roles())
    everything = trial.setup.outputs()
    seen = [Recording({role: tensor for role, tensor in outputs.items() if role in asked}) for outputs in everything]
    trial.method.losses(seen[0], seen[1], trial.setup.batch, moment())
    assert seen[0].read | seen[1].read == asked


@pytest.mark.parametrize("name", WRAPPING)
def test_a_wrapped_student_is_another_network_with_the_roles_that_the_method_says(name: str) -> None:
    trial = Trial(ENTRIES[name], "equal")
    plain, wrapped = trial.setup.pair.student.network, trial.setup.student.network
    assert {id(p) for p in plain.parameters()}.isdisjoint(id(p) for p in wrapped.parameters())
    seen = trial.setup.student.shapes(trial.setup.batch.inputs)
    added = {role: found.shape for role, found in trial.method.added_roles().items()}
    assert seen == {**trial.setup.pair.student_shapes, **added}


@pytest.mark.parametrize("name", WRAPPING)
def test_a_merged_student_is_the_plain_one_in_kind_and_the_trained_one_in_outputs(name: str) -> None:
    trial = Trial(ENTRIES[name], "equal")
    optimiser = torch.optim.SGD(trial.setup.student.parameters(), lr=0.1)
    for _ in range(3):  # weights and running statistics move
        optimiser.zero_grad()
        total(trial.losses()).backward()
        optimiser.step()
    trained = trial.setup.student.network
    before = deepcopy(trained.state_dict())
    merged = trial.method.merge(trained)
    assert all(torch.equal(tensor, before[key]) for key, tensor in trained.state_dict().items()), "training goes on"
    fresh = tiny_network(STUDENT_WIDTHS, stem_stride=1).network
    assert [(path, type(module)) for path, module in merged.named_modules()] == [
        (path, type(module)) for path, module in fresh.named_modules()
    ]
    fresh.load_state_dict(merged.state_dict())
    inputs = trial.setup.batch.inputs
    with torch.no_grad():
        torch.testing.assert_close(fresh.eval()(inputs), trained.eval()(inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", DISTANCES)
def test_a_distance_works_unbuilt_and_is_least_at_the_teacher(name: str) -> None:
    """That is how a method built on another's distance uses it. The tensors are such as the method itself taps."""
    method = ENTRIES[name].load()()
    batch = setup("equal").batch
    shapes = {**segmentation_setup().pair.teacher_shapes, **setup("equal").pair.teacher_shapes}
    shape = shapes[resolve_roles(method.taps, shapes)[-1]]
    teacher, other = torch.randn(2, BATCH_SIZE, *shape, generator=torch.Generator().manual_seed(0))
    student = teacher.clone().requires_grad_()
    at_teacher = method.distance(student, teacher, batch)
    assert at_teacher.shape == ()
    assert float(at_teacher.detach()) < float(method.distance(other, teacher, batch))
    at_teacher.backward()
    assert student.grad is not None


@pytest.mark.parametrize("name", ENTRIES)
def test_options_read_from_the_file_are_those_of_the_class(name: str) -> None:
    read, imported = ENTRIES[name].options, ENTRIES[name].load().Options
    if read is MethodOptions:  # the class declares none of its own
        assert not imported.model_fields
    else:
        assert read.model_json_schema() == imported.model_json_schema()


@pytest.mark.parametrize("name", ENTRIES)
def test_methods_and_options_are_documented_and_numbers_are_sourced(name: str) -> None:
    entry = ENTRIES[name]
    assert entry.doc
    for option, declared in entry.options.model_fields.items():
        assert declared.description, f"{option} says not what it does"
        extra: Any = declared.json_schema_extra
        is_number = isinstance(declared.default, (int, float)) and not isinstance(declared.default, bool)
        assert extra["source"] or not is_number, f"{option} = {declared.default} has no source"
