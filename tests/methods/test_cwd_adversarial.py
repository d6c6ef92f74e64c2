"""CWD's adversarial term: the discriminator beside the student, trained by its own optimiser, and never in the way."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from golden_values import batch_of, built, moment_at, pair_of, shapes_of, total
from test_plain_losses import check, normal, reference
from torch import Tensor

from methods.base import Losses, Outputs
from methods.cwd import CWD

CLASSES, CHANNELS = 3, 4


def outputs(draw: torch.Generator, height: int = 6, width: int = 70) -> Outputs:
    """Return maps whose height needs padding and whose width does not."""
    return {
        "seg_feature": normal(draw, 2, CHANNELS, height, width),
        "seg_logits": normal(draw, 2, CLASSES, height, width),
    }


def made(draw: torch.Generator, **options: float) -> CWD:
    shapes = shapes_of(outputs(draw))
    method = built(
        CWD(CWD.Options(**{"adversarial_weight": 0.001, **options})), pair_of(shapes, shapes, classes=CLASSES)
    )
    assert isinstance(method, CWD)
    return method


def state(method: CWD) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in method.discriminator.state_dict().items()}


def is_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def draw() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_five_steps_equal_a_plain_adversary(draw: torch.Generator) -> None:
    """The student's gradient is taken after the discriminator learned, as the engine does."""
    method = made(draw)
    discriminator = method.discriminator
    for layer in (3, 5):  # at 0 they pass nothing to what is attended
        discriminator.get_buffer(f"layers.{layer}.factor").fill_(0.3)
    plain_losses = reference("discriminator")
    left = {layer: discriminator.get_buffer(f"layers.{layer}.left") for layer in plain_losses.KERNELS}
    plain = plain_losses.Adversary({name: discriminator.get_buffer(name) for name in discriminator.weights}, left)
    for _ in range(5):
        student, teacher = outputs(draw), outputs(draw)
        ours, theirs = (student["seg_logits"].clone().requires_grad_() for _ in range(2))
        found = method.losses({**student, "seg_logits": ours}, teacher, batch_of(2), moment_at())
        found.terms["adversarial"].backward()
        judged, loss = plain.step(theirs, teacher["seg_logits"], 0.1)
        (0.001 * judged).backward()
        check(found.terms["adversarial"], 0.001 * float(judged.detach()))
        check(found.tracked["discriminator"], float(loss))
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-7, atol=1e-14)
        for name, weight in plain.weights.items():
            torch.testing.assert_close(discriminator.get_buffer(name), weight, rtol=1e-7, atol=1e-9, msg=name)


def test_only_the_discriminators_optimiser_trains_it(draw: torch.Generator) -> None:
    method = made(draw)
    assert [name for name, _ in method.named_parameters()] == ["align.weight"]
    before = state(method)
    student = {role: tensor.requires_grad_() for role, tensor in outputs(draw).items()}
    losses = method.losses(student, outputs(draw), batch_of(2), moment_at())
    after = state(method)
    assert not any(torch.equal(before[f"layers.{i}.weight"], after[f"layers.{i}.weight"]) for i in (0, 1, 2, 4, 6))
    total(losses).backward()
    assert is_equal(state(method), after)
    assert not any(tensor.requires_grad for tensor in method.buffers())


def test_in_eval_mode_the_discriminator_judges_and_stays(draw: torch.Generator) -> None:
    method = made(draw).eval()
    before = state(method)
    seen = outputs(draw), outputs(draw)
    one, other = (method.losses(*seen, batch_of(2), moment_at()) for _ in range(2))
    assert torch.equal(one.terms["adversarial"], other.terms["adversarial"]) and not one.tracked
    assert is_equal(state(method), before)


def test_ranks_average_the_discriminators_gradients(draw: torch.Generator) -> None:
    """Two ranks that see the same maps are one rank; the moments are linear in the mean gradient."""
    one, twin, other = (deepcopy(method) for method in [made(draw)] * 3)
    seen = outputs(draw), outputs(draw)
    one.losses(*seen, batch_of(2), moment_at())
    twin.losses(*seen, batch_of(2), replace(moment_at(), gather=lambda tensor: torch.cat([tensor, tensor])))
    assert is_equal(state(one), state(twin))
    other.losses(*seen, batch_of(2), replace(moment_at(), gather=lambda tensor: torch.cat([tensor, 3 * tensor])))
    torch.testing.assert_close(other.discriminator.moments[0], 2 * one.discriminator.moments[0])


def test_without_the_term_there_is_no_discriminator(draw: torch.Generator) -> None:
    with_it, without = made(draw), made(draw, adversarial_weight=0.0)
    assert list(without.state_dict()) == ["align.weight"]
    assert torch.equal(with_it.align.weight, without.align.weight)
    losses = without.losses(outputs(draw), outputs(draw), batch_of(2), moment_at())
    assert "adversarial" not in losses.terms and not losses.tracked


STEPS = 4


class Training:
    """A student of two free maps, with CWD, trained by SGD on one teacher's maps."""

    def __init__(self, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.method = made(draw, adversarial_weight=1.0).float()
        self.student = {role: tensor.float().requires_grad_() for role, tensor in outputs(draw).items()}
        self.teacher = {role: tensor.float() for role, tensor in outputs(torch.Generator().manual_seed(9)).items()}
        self.optimiser = torch.optim.SGD([*self.student.values(), *self.method.parameters()], lr=0.1, momentum=0.9)

    def step(self) -> Losses:
        self.optimiser.zero_grad()
        losses = self.method.losses(self.student, self.teacher, batch_of(2), moment_at())
        total(losses).backward()
        self.optimiser.step()
        return losses

    def saved(self) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, object]]:
        return deepcopy((self.method.state_dict(), self.student, self.optimiser.state_dict()))

    def restore(self, saved: tuple[dict[str, Tensor], dict[str, Tensor], dict[str, object]]) -> None:
        method, student, optimiser = deepcopy(saved)
        self.method.load_state_dict(method)
        with torch.no_grad():
            for role, tensor in student.items():
                self.student[role].copy_(tensor)
        self.optimiser.load_state_dict(optimiser)


def test_a_training_restored_after_any_step_ends_bit_for_bit_as_if_it_never_stopped() -> None:
    whole = Training(seed=0)
    saved = [whole.saved()]
    for _ in range(STEPS):
        whole.step()
        saved.append(whole.saved())
    for done in range(STEPS):
        resumed = Training(seed=1)
        resumed.restore(saved[done])
        for _ in range(STEPS - done):
            resumed.step()
        for one, other in zip(resumed.saved()[:2], saved[-1][:2], strict=True):
            assert is_equal(one, other), f"differs after a stop at step {done}"
