"""KDiffusion's arithmetic against reference values of equation (10), and against a second implementation in floats."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from draws import scripted
from golden_values import Golden, batch_of, built, moment_at
from pairs import tiny_network
from test_plain_losses import reference
from torch import Tensor

from methods.base import Method, Pair
from methods.kdiffusion.kdiffusion import KDiffusion
from methods.kdiffusion.process import Estimate, Schedule, Step, reverse_steps

PLAIN = reference("kdiffusion")
WIDTHS = (3, 4, 5, 6)
BRANCHES = 3
SHAPES = {"stage1": (4, 8, 8), "stage2": (5, 4, 4), "stage3": (6, 2, 2)}


def method_of(**options: Any) -> KDiffusion:
    """For a student and a teacher of the same widths, so that features are compared without a bridge."""
    networks = tiny_network(WIDTHS, stem_stride=2), tiny_network(WIDTHS, stem_stride=2)
    shapes = networks[0].shapes(torch.randn(1, 3, 16, 16))
    pair = Pair(*networks, shapes, shapes, classes=10, dataset_size=50)
    chosen: Method = built(KDiffusion(KDiffusion.Options(bridge="none", branches=BRANCHES, **options)), pair)
    assert isinstance(chosen, KDiffusion)
    return chosen


def outputs(batch: int = 2) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Student features m,B,C,H,W by stage, and the teacher's stages."""
    draw = torch.Generator().manual_seed(1)
    return tuple(  # type: ignore[return-value]
        {role: torch.randn(*many, batch, *shape, generator=draw, dtype=torch.float64) for role, shape in SHAPES.items()}
        for many in ((BRANCHES,), ())
    )


def stacked(features: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the wrapped student gives them: branch after branch in the channels."""
    return {f"branches.{role}": torch.cat(list(each), dim=1) for role, each in features.items()}


def flat(tensor: Tensor) -> list[float]:
    found: list[float] = tensor.flatten().tolist()
    return found


def test_the_posterior_equals_the_reference_values() -> None:
    golden = Golden("kdiffusion_posterior")
    alphas = golden["alpha_hat"].tolist()
    for high, low, u, v, w in golden["rows"].tolist():
        step = Step.between(alphas[int(high)], alphas[int(low)])
        assert (step.u, step.v, step.w) == pytest.approx((u, v, w), rel=1e-12)
        assert step.beta == pytest.approx(float(golden["beta_hat"][int(high)]), rel=1e-12)


@pytest.mark.parametrize("schedule", get_args(Schedule))
@pytest.mark.parametrize("steps", [1, 3, 4, 8])
def test_every_step_is_gaussian_conditioning(schedule: Schedule, steps: int) -> None:
    shares = PLAIN.amplitudes(schedule, steps)
    for step, high, low in zip(reverse_steps(schedule, steps), shares[:-1], shares[1:], strict=True):
        assert step.alpha == pytest.approx(high, rel=1e-9, abs=1e-12)
        assert (step.u, step.v, step.w) == pytest.approx(PLAIN.posterior(high, low), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("schedule", get_args(Schedule))
@pytest.mark.parametrize("estimate", get_args(Estimate))
def test_the_objective_equals_a_plain_loop(schedule: Schedule, estimate: Estimate) -> None:
    method = method_of(schedule=schedule, estimate=estimate, weight=3.0, target_guidance=False)
    features, teacher = outputs()
    draws = [torch.tensor(normals, dtype=torch.float64) for normals in ([0.3, -1, 2], [1, 0, -1], [0, 1, 2.0])]
    orders = {"stage3": [1, 0, 2], "stage2": [2, 1, 0], "stage1": [0, 1, 2]}  # deepest first
    moment = scripted(draws)
    terms = method.losses(stacked(features), teacher, batch_of(2), moment).terms
    assert moment.is_used_up()
    assert list(terms) == [f"{role}.diffusion" for role in orders]
    for role, order in orders.items():
        shuffled = [flat(features[role][branch]) for branch in order]
        expected = 3 * PLAIN.objective(shuffled, flat(teacher[role]), schedule, estimate)
        assert float(terms[f"{role}.diffusion"]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("predicted", ["average", "last"])
def test_target_guidance_equals_a_plain_loop(predicted: Any) -> None:
    method = method_of(predicted=predicted, guidance_weight=2.0, shuffle=False)
    features, teacher = outputs()
    weights = {role: level.reader.weight.tolist() for role, level in method.levels.items()}
    terms = method.losses(stacked(features), teacher, batch_of(2), moment_at()).terms
    for role in SHAPES:
        ours = features[role].mean(dim=0) if predicted == "average" else features[role][-1]
        maps = [ours.tolist(), teacher[role].tolist()]
        if role == "stage3":
            read = [PLAIN.through_classifier(each, weights[role]) for each in maps]
        else:
            read = [PLAIN.through_convolution(each, weights[role], stride=2, padding=1) for each in maps]
        assert float(terms[f"{role}.guidance"]) == pytest.approx(2 * PLAIN.mean_square(*read), rel=1e-9)
