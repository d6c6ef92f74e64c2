from __future__ import annotations

from math import sqrt
from typing import Any

import pytest
import torch
from draws import scripted
from golden_values import batch_of, built, moment_at, pair_of, shapes_of, total
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.errors import CannotServe, UsageError
from methods.base import Method
from methods.diffkd.diffkd import DiffKD
from methods.diffkd.diffusion import alphas_cumprod, denoising_steps, denoising_timesteps
from methods.diffkd.networks import light_predictor
from methods.spec import MethodSpec

Tensors = dict[str, Tensor]


def outputs(seed: int, channels: int = 6, side: int = 4, classes: int = 5) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"pre_pool": (8, channels, side, side), "logits": (8, classes)}
    return {role: torch.randn(shape, generator=generator, dtype=torch.float64) for role, shape in shapes.items()}


STUDENT, TEACHER = outputs(seed=1), outputs(seed=2, channels=9)


def made(student: Tensors = STUDENT, teacher: Tensors = TEACHER, **options: Any) -> Method:
    return built(DiffKD(DiffKD.Options(**options)), pair_of(shapes_of(student), shapes_of(teacher)))


def terms(method: Method, student: Tensors = STUDENT, teacher: Tensors = TEACHER) -> Tensors:
    return dict(method.losses(student, teacher, batch_of(8), moment_at()).terms)


def flow(loss: Tensor, method: Method, module: str) -> float:
    """How much gradient reaches the parameters whose name contains this."""
    parameters = [parameter for name, parameter in method.named_parameters() if module in name]
    assert parameters
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return sum(float(gradient.abs().sum()) for gradient in gradients if gradient is not None)


# The grids


def test_timesteps_of_both_variants() -> None:
    assert denoising_timesteps("official", 5) == [400, 300, 200, 100, 0]
    assert denoising_timesteps("paper", 5) == [500, 400, 300, 200, 100]
    assert denoising_timesteps("paper", 1) == [500]
    assert denoising_timesteps("paper", 3) == [500, 333, 166]


@pytest.mark.parametrize("nfe", [7, 499, 500])
def test_grids_descend_through_distinct_timesteps(nfe: int) -> None:
    for variant, bounds in (("official", range(0, 500)), ("paper", range(1, 501))):
        found = denoising_timesteps(variant, nfe)
        assert len(set(found)) == nfe
        assert found == sorted(found, reverse=True)
        assert set(found) <= set(bounds)


@pytest.mark.parametrize("nfe", [-1, 501])
def test_more_steps_than_timesteps_are_refused(nfe: int) -> None:
    with pytest.raises(UsageError, match=r"diffkd\.nfe"):
        MethodSpec.parse({"diffkd": {"nfe": nfe}})


@pytest.mark.parametrize("variant", ["official", "paper"])
def test_the_true_noise_leads_back_to_the_clean_sample(variant: Any) -> None:
    """With a predictor that always answers the noise that was added, DDIM is exact."""
    clean, noise = outputs(3)["pre_pool"], outputs(4)["pre_pool"]
    steps, alphas = denoising_steps(variant, 10), alphas_cumprod().double()
    start = alphas[steps[0].timestep]
    noisy = start.sqrt() * clean + (1 - start).sqrt() * noise
    for step in steps:
        noisy = step(noisy, noise)
    last = 1.0 if variant == "official" else float(alphas[0])
    torch.testing.assert_close(noisy, sqrt(last) * clean + sqrt(1 - last) * noise)


# The paper's variant, against plain arithmetic


def plainly_denoised(noisy: Tensor, predictor: Any) -> Tensor:
    """DDIM as the paper of that name prints it, one step after the other from timestep 500."""
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), dim=0).double()
    for now, then in ((500, 400), (400, 300), (300, 200), (200, 100), (100, 0)):
        noise = predictor(noisy, torch.full((len(noisy),), now))
        clean = (noisy - (1 - kept[now]).sqrt() * noise) / kept[now].sqrt()
        noisy = kept[then].sqrt() * clean + (1 - kept[then]).sqrt() * noise
    return noisy


def test_paper_variant_of_the_feature_equals_a_plain_loop() -> None:
    method = made(variant="paper", branches=["feature"], latent=7, diffusion_weight=3, autoencoder_weight=0.5)
    branch = method.branches["feature"]
    noise, more = torch.randn(2, 8, 7, 4, 4, dtype=torch.float64)
    timesteps = torch.tensor([0, 1, 5, 50, 400, 600, 800, 999])
    found = method.losses(STUDENT, TEACHER, batch_of(8), scripted([noise, more], [timesteps]))

    ours, theirs = STUDENT["pre_pool"], TEACHER["pre_pool"]
    projected = F.conv2d(ours, branch.student_projection.weight, branch.student_projection.bias)
    latent = branch.autoencoder.encoder(theirs)
    gamma = branch.adapter(projected)
    mixed = torch.stack([g * z + (1 - g) * e for g, z, e in zip(gamma, projected, noise, strict=True)])
    distillation = ((plainly_denoised(mixed, branch.predictor) - latent) ** 2).mean()
    kept = alphas_cumprod().double()[timesteps].view(8, 1, 1, 1)
    answer = branch.predictor(kept.sqrt() * latent + (1 - kept).sqrt() * more, timesteps)
    torch.testing.assert_close(found.terms["feature.distillation"], distillation)
    torch.testing.assert_close(found.terms["feature.diffusion"], 3 * ((answer - more) ** 2).mean())
    reconstruction = branch.autoencoder.decoder(latent)
    torch.testing.assert_close(found.terms["feature.autoencoder"], 0.5 * ((reconstruction - theirs) ** 2).mean())
    torch.testing.assert_close(found.tracked["feature.gamma"], gamma.detach())


def test_paper_variant_of_the_logits_has_two_linear_layers() -> None:
    method = made(variant="paper", branches=["logits"], noise_matching=False)
    branch = method.branches["logits"]
    time, first, first_bias, second, second_bias = branch.predictor.parameters()
    assert first.shape == (20, 5, 1, 1)

    def two_layers(noisy: Tensor, timesteps: Tensor) -> Tensor:
        hidden = F.relu((noisy + time[timesteps]) @ first[:, :, 0, 0].T + first_bias)
        return hidden @ second[:, :, 0, 0].T + second_bias

    projection = branch.student_projection
    start = STUDENT["logits"] @ projection.weight[:, :, 0, 0].T + projection.bias
    answer, target = plainly_denoised(start, two_layers).log_softmax(1), TEACHER["logits"].softmax(1)
    divergence = (target * (target.log() - answer)).sum(dim=1).mean()
    torch.testing.assert_close(terms(method)["logits.distillation"], divergence)


# Options


def test_branches_are_those_asked_for() -> None:
    for branches, taps in ((["feature"], ("pre_pool",)), (["logits"], ("logits",))):
        method = made(branches=branches)
        assert method.taps == taps
        assert {name.split(".")[0] for name in terms(method)} == set(branches)
    both = made()
    assert both.taps == ("pre_pool", "logits")
    names = [f"{branch}.{term}" for branch in ("feature", "logits") for term in ("distillation", "diffusion")]
    assert list(terms(both)) == names


def test_the_order_in_which_branches_are_named_changes_nothing() -> None:
    assert terms(made(branches=["logits", "feature"])) == terms(made())


@pytest.mark.parametrize("variant", ["official", "paper"])
def test_nfe_zero_compares_the_projected_student_itself(variant: str) -> None:
    method = made(variant=variant, branches=["feature"], nfe=0)
    branch = method.branches["feature"]
    found = method.losses(STUDENT, TEACHER, batch_of(8), scripted())  # nothing is drawn
    projected = branch.output_projection(branch.student_projection(STUDENT["pre_pool"]))
    torch.testing.assert_close(found.terms["feature.distillation"], F.mse_loss(projected, TEACHER["pre_pool"]))
    assert set(found.terms) == {"feature.distillation"}
    assert not found.tracked
    assert not [name for name, _ in method.named_parameters() if "predictor" in name or "adapter" in name]


def test_without_noise_matching_the_projected_student_is_denoised_as_it_is() -> None:
    method = made(branches=["feature"], noise_matching=False)
    assert not [name for name, _ in method.named_parameters() if "adapter" in name]
    one_draw = scripted([torch.zeros(8, 9, 4, 4, dtype=torch.float64)], [torch.zeros(8, dtype=torch.long)])
    losses = method.losses(STUDENT, TEACHER, batch_of(8), one_draw)
    assert set(losses.terms) == {"feature.distillation", "feature.diffusion"}
    assert not losses.tracked


def test_gamma_is_one_number_a_sample_between_zero_and_one() -> None:
    tracked = made().losses(STUDENT, TEACHER, batch_of(8), moment_at()).tracked
    assert set(tracked) == {"feature.gamma", "logits.gamma"}
    for gamma in tracked.values():
        assert gamma.shape == (8,)
        assert not gamma.requires_grad
        assert bool(((gamma > 0) & (gamma < 1)).all())


def test_an_autoencoder_may_expand() -> None:
    student = {"pre_pool": torch.randn(2, 512, 2, 2, dtype=torch.float64)}
    teacher = {"pre_pool": torch.randn(2, 512, 2, 2, dtype=torch.float64)}
    method = made(student, teacher, branches=["feature"], latent=1024, nfe=1)
    latents = method.branches["feature"](student["pre_pool"], teacher["pre_pool"], moment_at())
    assert latents.student.shape == latents.teacher.shape == (2, 1024, 2, 2)
    assert "feature.autoencoder" in terms(method, student, teacher)


def test_the_light_predictor_has_the_size_of_table_12() -> None:
    """0.21 M parameters at 256 channels; the time embedding is not counted there."""
    layers = light_predictor(256, spatial=True, variant="official").layers
    assert sum(parameter.numel() for parameter in layers.parameters()) == 207_872


def test_logits_are_never_encoded() -> None:
    assert "logits.autoencoder" not in terms(made(latent=3))


@pytest.mark.parametrize(("student_side", "teacher_side"), [(8, 4), (4, 8)])
@pytest.mark.parametrize("resize", ["pool", "interpolate"])
def test_maps_of_unequal_size_meet(student_side: int, teacher_side: int, resize: str) -> None:
    student, teacher = outputs(1, side=student_side), outputs(2, channels=9, side=teacher_side)
    method = made(student, teacher, branches=["feature"], resize=resize)
    latents = method.branches["feature"](student["pre_pool"], teacher["pre_pool"], moment_at())
    side = 4 if resize == "pool" else teacher_side
    assert latents.student.shape == latents.teacher.shape == (8, 9, side, side)
    assert all(value.isfinite() for value in terms(method, student, teacher).values())


def test_each_weight_multiplies_its_own_terms() -> None:
    weights = {"feature_weight": 2, "logits_weight": 3, "diffusion_weight": 5, "autoencoder_weight": 7}
    weighed = terms(made(latent=7, weight=0.5, distillation_weight=11, **weights))
    factors = {"feature": 2, "logits": 3, "diffusion": 5, "autoencoder": 7, "distillation": 11}
    for name, value in terms(made(latent=7)).items():
        branch, term = name.split(".")
        torch.testing.assert_close(weighed[name], 0.5 * factors[branch] * factors[term] * value)


def test_a_pattern_makes_a_branch_of_each_role() -> None:
    student = {f"stage{i}": outputs(i, side=2 * i)["pre_pool"] for i in (1, 2)}
    teacher = {f"stage{i}": outputs(i + 5, channels=9, side=2 * i)["pre_pool"] for i in (1, 2)}
    method = made(student, teacher, branches=["feature"], feature_tap="stage*")
    assert {name.split(".")[0] for name in terms(method, student, teacher)} == {"feature_0", "feature_1"}


def test_what_cannot_be_paired_is_skipped() -> None:
    with pytest.raises(CannotServe, match="different taps"):
        made(STUDENT, {**TEACHER, "pre_pool_2": TEACHER["pre_pool"]}, feature_tap="pre*", branches=["feature"])
    with pytest.raises(CannotServe, match="pre_pool is"):
        made(STUDENT, {"pre_pool": TEACHER["logits"]}, branches=["feature"])


# Distances


def test_a_distance_of_another_method_replaces_the_own_one() -> None:
    """DiffKD-dagger is this with `dist`."""
    method = made(branches=["logits"], logits_distance={"dist": {"tau": 2.0}})
    latents = method.branches["logits"](STUDENT["logits"], TEACHER["logits"], moment_at())
    other = MethodSpec.parse({"dist": {"tau": 2.0}}).make()
    expected = other.distance(latents.student.flatten(1), TEACHER["logits"], batch_of(8))
    torch.testing.assert_close(terms(method)["logits.distillation"], expected)


@pytest.mark.parametrize("reference", ["none", "kd+mse", {"diffkd": {}}])
def test_what_is_no_distance_is_refused_with_those_that_are(reference: Any) -> None:
    with pytest.raises(UsageError, match=r"diffkd\.feature_distance: .* is no distance .*kd, .*mse"):
        MethodSpec.parse({"diffkd": {"feature_distance": reference}})


# Where gradients go


def test_the_distance_trains_student_adapter_and_predictor_but_no_autoencoder() -> None:
    student = {role: tensor.clone().requires_grad_() for role, tensor in STUDENT.items()}
    method = made(branches=["feature"], latent=7)
    found = terms(method, student)
    distillation = found["feature.distillation"]
    assert torch.autograd.grad(distillation, student["pre_pool"], retain_graph=True)[0].abs().sum() > 0
    for module in (
        "student_projection",
        "adapter",
        "predictor.time_embedding",
        "predictor.layers",
        "output_projection",
    ):
        assert flow(distillation, method, module) > 0, module
    assert flow(distillation, method, "autoencoder") == 0


def test_diffusion_and_reconstruction_train_their_own_module_alone() -> None:
    method = made(branches=["feature"], latent=7)
    found = terms(method)
    modules = ("student_projection", "adapter", "predictor", "autoencoder.encoder", "autoencoder.decoder", "output")
    reached = {
        term: [module for module in modules if flow(found[f"feature.{term}"], method, module) > 0]
        for term in ("diffusion", "autoencoder")
    }
    assert reached == {"diffusion": ["predictor"], "autoencoder": ["autoencoder.encoder", "autoencoder.decoder"]}


@pytest.mark.parametrize("options", [{}, {"nfe": 0}, {"variant": "paper"}, {"noise_matching": False, "latent": 4}])
def test_no_parameter_is_idle(options: dict[str, Any]) -> None:
    method = made(**options)
    total(method.losses(STUDENT, TEACHER, batch_of(8), moment_at())).backward()
    assert [name for name, parameter in method.named_parameters() if parameter.grad is None] == []


def test_half_precision_latents_are_denoised_in_single() -> None:
    method = made(branches=["feature"]).float()
    student, teacher = (tensors["pre_pool"].float() for tensors in (STUDENT, TEACHER))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        latents = method.branches["feature"](student, teacher.bfloat16(), moment_at())
    assert latents.teacher.dtype == torch.float32
    assert latents.losses["diffusion"].dtype == torch.float32


# Other readings


def test_the_first_release_has_no_batch_norm_after_denoising() -> None:
    first, official = made(variant="june2023"), made()
    assert isinstance(first, DiffKD) and isinstance(official, DiffKD)
    for (name, ours), (_, theirs) in zip(first.each_branch(), official.each_branch(), strict=True):
        assert isinstance(ours.output_projection, nn.Conv2d), name
        assert [type(part).__name__ for part in theirs.output_projection] == ["Pointwise", "BatchNorm2d"]
        assert ours.steps == theirs.steps
    names = {name.replace("output_projection.0", "output_projection") for name, _ in official.named_parameters()}
    assert {name for name, _ in first.named_parameters()} == {n for n in names if "output_projection.1" not in n}


def levels(seed: int, *channels: int) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    shapes = {f"fpn.{index}": (8, width, 4, 4) for index, width in enumerate(channels)}
    return {role: torch.randn(shape, generator=generator, dtype=torch.float64) for role, shape in shapes.items()}


def test_a_shared_diffusion_model_learns_from_every_level() -> None:
    student, teacher = levels(1, 6, 6, 6), levels(2, 6, 6, 6)
    options: dict[str, Any] = {"branches": ("feature",), "feature_tap": "fpn.*"}
    own, shared = (made(student, teacher, shared=flag, **options) for flag in (False, True))
    assert isinstance(own, DiffKD) and isinstance(shared, DiffKD)
    (_, first), (_, second), (_, third) = shared.each_branch()
    assert first.predictor is second.predictor is third.predictor
    assert first.adapter is third.adapter and first.output_projection is third.output_projection
    assert first.student_projection is not second.student_projection
    size = {method: sum(p.numel() for p in method.parameters()) for method in (own, shared)}
    projections = sum(p.numel() for _, branch in own.each_branch() for p in branch.student_projection.parameters())
    assert size[own] - projections == 3 * (size[shared] - projections)
    found = terms(shared, student, teacher)
    for name in ("feature_0", "feature_1", "feature_2"):
        gradients = torch.autograd.grad(
            found[f"{name}.diffusion"], list(first.predictor.parameters()), retain_graph=True, allow_unused=True
        )
        assert any(gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients)


@pytest.mark.parametrize("latent", [None, 4])
def test_levels_of_unequal_width_cannot_share(latent: int | None) -> None:
    student = teacher = levels(1, 6, 8)
    with pytest.raises(CannotServe, match=r"fpn.1 has 8 channels and fpn.0 6"):
        made(student, teacher, shared=True, latent=latent, branches=("feature",), feature_tap="fpn.*")


def test_a_map_and_a_vector_cannot_share() -> None:
    student = teacher = levels(1, 6, 6) | {"pre_pool": torch.randn(2, 6)}
    with pytest.raises(CannotServe, match=r"pre_pool has a vector of 6 and fpn.0 6 channels"):
        made(student, teacher, shared=True, branches=("feature",), feature_tap=("fpn.0", "pre_pool"))
