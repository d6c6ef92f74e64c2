"""DiffKD against reference values (image_classification_sota @ 6f7a70a), in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from draws import scripted
from golden_values import Golden, batch_of, built, pair_of, shapes_of, total
from torch import Tensor

from methods.base import Losses
from methods.diffkd.diffkd import DiffKD
from methods.diffkd.diffusion import alphas_cumprod, denoise, denoising_steps, denoising_timesteps

# Our name of each module -> the reference's.
NAMES = {
    "student_projection.": "trans.",
    "autoencoder.encoder.": "ae.encoder.",
    "autoencoder.decoder.": "ae.decoder.0.",
    "adapter.features.": "noise_adapter.feat.",
    "adapter.choice.": "noise_adapter.pred.",
    "predictor.time_embedding.": "model.time_embedding.",
    "predictor.layers.": "model.pred.",
    "output_projection.": "proj.",
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "diffkd_feature_plain": ("feature", {"nfe": 3}),
    "diffkd_feature_ae": ("feature", {"nfe": 5, "latent": 16}),
    "diffkd_logits": ("logits", {"nfe": 5}),
}
ROLES = {"feature": "pre_pool", "logits": "logits"}


def close(found: Tensor, expected: Tensor) -> None:
    # What cancels (the gradient of a bias in front of a batch norm) is zero up to rounding only.
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)


class Case:
    """One file of reference values, and our branch with its parameters and its draws."""

    def __init__(self, name: str) -> None:
        self.golden = Golden(name)
        self.kind, options = CASES[name]
        self.student = {ROLES[self.kind]: self.outside(self.golden["student_feature"]).requires_grad_()}
        self.teacher = {ROLES[self.kind]: self.outside(self.golden["teacher_feature"])}
        method = DiffKD(DiffKD.Options(branches=[self.kind], **options))
        self.method = built(method, pair_of(shapes_of(self.student), shapes_of(self.teacher)))
        self.branch = method.branches[self.kind]
        self.golden.load_into(self.branch, NAMES)
        noise = [self.golden["adapter_noise"], self.golden["diffusion_noise"]]
        self.moment = scripted(noise, [self.golden["diffusion_timesteps"]])

    def outside(self, tensor: Tensor) -> Tensor:
        """As a network gives it: logits are B,C where the reference has B,C,1,1."""
        return tensor.flatten(1) if self.kind == "logits" else tensor

    def losses(self) -> Losses:
        return self.method.losses(self.student, self.teacher, batch_of(8), self.moment)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_terms_equal_the_reference(case: Case) -> None:
    references = {"distillation": "kd_loss", "diffusion": "diffusion_loss"}
    if case.golden.meta["use_ae"]:
        references["autoencoder"] = "reconstruction_loss"
    terms = case.losses().terms
    assert set(terms) == {f"{case.kind}.{term}" for term in references}
    for term, reference in references.items():
        close(terms[f"{case.kind}.{term}"], case.golden[reference])
    assert case.moment.is_used_up()


def test_latents_equal_the_reference(case: Case) -> None:
    [role] = case.method.taps
    latents = case.branch(case.student[role], case.teacher[role], case.moment)
    close(latents.student, case.golden["refined"])
    close(latents.teacher, case.golden["teacher_latent"])


def test_every_gradient_equals_the_reference(case: Case) -> None:
    total(case.losses()).backward()
    [role] = case.method.taps
    close(case.student[role].grad, case.outside(case.golden["grad_student"]))
    left = {name for name in case.golden.tensors if name.startswith("grad__")}
    for name, parameter in case.branch.named_parameters():
        ours = next(prefix for prefix in NAMES if name.startswith(prefix))
        theirs = f"grad__{NAMES[ours]}{name.removeprefix(ours)}"
        close(parameter.grad, case.golden[theirs])
        left.remove(theirs)
    assert not left


@pytest.mark.parametrize("nfe", [1, 3, 5, 10, 20])
def test_denoising_passes_through_the_reference_trajectory(nfe: int) -> None:
    golden = Golden(f"ddim_nfe{nfe}")

    def predictor(noisy: Tensor, timestep: Tensor | int) -> Tensor:
        return 0.3 * noisy + 0.01 * noisy.cos()

    assert denoising_timesteps("official", nfe) == golden["timesteps"].tolist()
    steps = denoising_steps("official", nfe)
    noisy = golden["start"]
    for step, reached in zip(steps, golden["trajectory"], strict=True):
        noisy = step(noisy, predictor(noisy, step.timestep))
        close(noisy, reached)
    close(denoise(golden["start"], steps, predictor), golden["trajectory"][-1])


def test_the_noise_table_is_the_reference_table() -> None:
    assert torch.equal(alphas_cumprod().double(), Golden("ddim_nfe5")["alphas_cumprod"])
