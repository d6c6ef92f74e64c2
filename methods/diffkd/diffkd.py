"""Knowledge diffusion for distillation (Huang et al., NeurIPS 2023, arXiv 2305.15712)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import LOGITS, PRE_POOL, Batch, Losses, Method, Moment, Outputs, Pair, at_least_float32
from methods.diffkd.diffusion import alphas_cumprod, denoise, denoising_steps, diffusion_loss
from methods.diffkd.networks import PREDICTORS, Autoencoder, NoiseAdapter, output_projection
from methods.maps import match_sizes
from methods.options import MethodOptions, MethodReference, option
from methods.spec import MethodSpec


class DiffKD(Method):
    """DiffKD: denoise the student's features with a diffusion model trained on the teacher's, then compare them.

    `task + lambda1 L_diff + lambda2 L_ae + lambda3 d(denoise(gamma z_s + (1 - gamma) e), z_t)` for each branch, where
    `z_s` is the projected student tensor, `z_t` the (encoded) teacher tensor, detached, and `gamma` is learned.

    With `nfe` 0 nothing is denoised, so no noise is matched and no predictor is trained: the distance alone acts, on
    the projected student tensor. A branch's weight is the product of `weight`, its own weight and the term's.
    """

    taps: tuple[str, ...] = (PRE_POOL, LOGITS)

    class Options(MethodOptions):
        """Options of DiffKD."""

        variant: Literal["official", "paper", "june2023"] = option(
            "official",
            "`official`: the released code. `paper`: as printed, which has timesteps from 500 on, two linear"
            " layers to predict the noise in logits, and no projection after denoising. `june2023`: the first release,"
            " whose projection after denoising has no batch norm",
            source="image_classification_sota, which produced the published log; june2023: hunto/DiffKD at 2393a4a",
        )
        branches: tuple[Literal["feature", "logits"], ...] = option(
            ("feature", "logits"), "what is distilled (Table 7)", source="paper, section 4.1", min_length=1
        )
        feature_tap: str | tuple[str, ...] = option(
            "pre_pool",
            "the role of the feature branch, or several; a pattern such as `fpn.*` makes one branch of each role it"
            " matches (section C.5: also `cls_scores.*` and `bbox_preds.*`)",
            source="paper, section 4.1: the last feature before pooling",
        )
        latent: int | None = option(
            None,
            "width of the feature's autoencoder, none where it is null (Table 8)",
            source="paper, appendix B.2: none on CIFAR-100, 1024 for ResNet and 768 for Swin-L teachers on ImageNet",
            gt=0,
        )
        noise_matching: bool = option(
            True, "mix noise into the student's tensor, to a learned degree (Table 11)", source="paper, section 3.3"
        )
        nfe: int = option(
            5,
            "denoising steps, evaluations of the noise predictor (Figure 4); both grids end at 500",
            source="paper, section 4.4",
            ge=0,
            le=500,
        )
        predictor: Literal["light", "unet"] = option(
            "light",
            "the noise predictor (Table 12): the paper's efficient one, or for maps DDPM's UNet",
            source="paper, section 3.2: two bottlenecks",
        )
        feature_distance: MethodReference = option(
            {"mse": {}}, "compares denoised feature and teacher latent", source="paper, section 4.1: MSE"
        )
        logits_distance: MethodReference = option(
            {"kd": {"temperature": 1.0}},
            "compares denoised and teacher logits; DiffKD-dagger says `dist`",
            source="paper, section 4.1: KL divergence with temperature 1",
        )
        weight: float = option(
            1.0,
            "of all terms, as in the released code",
            source="paper, appendix B.2: 1 on ImageNet; for CIFAR-100 it is stated nowhere",
            ge=0,
        )
        feature_weight: float = option(1.0, "of all terms of the feature branch", source="paper, equation (9)", ge=0)
        logits_weight: float = option(1.0, "of all terms of the logit branch", source="paper, equation (9)", ge=0)
        diffusion_weight: float = option(
            1.0, "of the noise predictor's loss: lambda 1", source="paper, section 3.3: 1 in all experiments", ge=0
        )
        autoencoder_weight: float = option(
            1.0, "of the reconstruction loss: lambda 2", source="paper, section 3.3: 1 in all experiments", ge=0
        )
        distillation_weight: float = option(
            1.0, "of the distance: lambda 3", source="paper, appendix B.2: 1 on ImageNet; 5 to 15 on COCO", ge=0
        )
        shared: bool = option(
            False,
            "one diffusion model for all feature branches: noise predictor, noise adapter, autoencoder and projection"
            " after denoising; else each branch has its own",
            source="stated nowhere; Table 12's 0.21 M parameters are those of one noise predictor",
        )
        resize: Literal["pool", "interpolate"] = option(
            "pool", "maps of unequal size: pool the larger, or interpolate the student's", source="stated nowhere"
        )

    options: Options

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        wanted = {"feature": self._feature_taps, "logits": (LOGITS,)}
        self.taps = tuple(tap for kind, taps in wanted.items() if kind in self.options.branches for tap in taps)
        self.branches = nn.ModuleDict()

    def build(self, pair: Pair) -> None:
        """Build a branch for each role, in a fixed order: features, then logits."""
        if "feature" in self.options.branches:
            roles = self.shared_roles(pair, *self._feature_taps)
            for index, role in enumerate(roles):
                name = "feature" if len(roles) == 1 else f"feature_{index}"
                self.branches[name] = self._branch(role, pair, is_logits=False)
            if self.options.shared:
                self._share([branch for _, branch in self.each_branch()])
        if "logits" in self.options.branches:
            self.branches["logits"] = self._branch(LOGITS, pair, is_logits=True)

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return terms `<branch>.distillation`, `.diffusion` and `.autoencoder`. Tracks `<branch>.gamma` by sample."""
        terms: dict[str, Tensor] = {}
        tracked: dict[str, Tensor] = {}
        for name, branch in self.each_branch():
            latents = branch(student[branch.role], teacher[branch.role], moment)
            found = {"distillation": branch.compare(latents, batch), **latents.losses}
            terms |= {f"{name}.{term}": branch.weights[term] * value for term, value in found.items()}
            if latents.gamma is not None:
                tracked[f"{name}.gamma"] = latents.gamma.detach()
        return Losses(terms, tracked)

    def each_branch(self) -> list[tuple[str, Branch]]:
        """List the branches by name, in the order in which they draw noise."""
        return [(name, branch) for name, branch in self.branches.items() if isinstance(branch, Branch)]

    def _share(self, branches: list[Branch]) -> None:
        """Give all branches the diffusion model of the first."""
        first, *others = branches
        for branch in others:
            if branch.serves != first.serves:
                self.skip(f"{branch.role} has {branch.serves} and {first.role} {first.serves}")
            branch.adapter, branch.predictor = first.adapter, first.predictor
            branch.autoencoder, branch.output_projection = first.autoencoder, first.output_projection

    @property
    def _feature_taps(self) -> tuple[str, ...]:
        asked = self.options.feature_tap
        return (asked,) if isinstance(asked, str) else asked

    def _branch(self, role: str, pair: Pair, *, is_logits: bool) -> Branch:
        student, teacher = pair.student_shapes[role], pair.teacher_shapes[role]
        if len(student) != len(teacher):
            self.skip(f"{role} is {student} in the student and {teacher} in the teacher")
        weight = self.options.weight * (self.options.logits_weight if is_logits else self.options.feature_weight)
        weights = {
            "distillation": weight * self.options.distillation_weight,
            "diffusion": weight * self.options.diffusion_weight,
            "autoencoder": weight * self.options.autoencoder_weight,
        }
        reference = self.options.logits_distance if is_logits else self.options.feature_distance
        latent = None if is_logits else self.options.latent
        return Branch(role, student, teacher, latent, weights, MethodSpec.parse(reference).make(), self.options)


@dataclass(frozen=True)
class Latents:
    """The result of a branch. Latents are B,C,H,W (vectors: B,C,1,1), the teacher's without gradient."""

    student: Tensor  # denoised
    teacher: Tensor
    losses: dict[str, Tensor]  # of the noise predictor and the autoencoder, unweighted
    gamma: Tensor | None  # B


class Branch(nn.Module):
    """The diffusion of one role: its networks, its distance and the weights of its terms."""

    alphas: Tensor

    def __init__(
        self,
        role: str,
        student: tuple[int, ...],
        teacher: tuple[int, ...],
        latent: int | None,
        weights: dict[str, float],
        distance: Method,
        options: DiffKD.Options,
    ) -> None:
        """Build the branch's networks. Shapes are C,H,W for maps or C for vectors."""
        super().__init__()
        self.role, self.weights, self.distance, self.resize = role, weights, distance, options.resize
        self.spatial = len(teacher) == 3
        self.serves = f"{teacher[0]} channels" if self.spatial else f"a vector of {teacher[0]}"
        channels = latent or teacher[0]
        self.steps = denoising_steps(options.variant, options.nfe)
        self.register_buffer("alphas", alphas_cumprod(), persistent=False)
        self.student_projection = nn.Conv2d(student[0], channels, 1)
        self.autoencoder = Autoencoder(teacher[0], latent) if latent else None
        # What would get no gradient is not made: training over several devices forbids idle parameters.
        self.adapter = NoiseAdapter(channels, self.spatial) if options.noise_matching and self.steps else None
        self.predictor = PREDICTORS[options.predictor](channels, self.spatial, options.variant) if self.steps else None
        self.output_projection = output_projection(channels, options.variant)

    def forward(self, student: Tensor, teacher: Tensor, moment: Moment) -> Latents:
        """Return the latents of maps B,C,H,W or vectors B,C.

        Draws the matching noise first, then the diffusion's noise and timesteps.
        """
        if self.spatial:
            student, teacher = match_sizes(student, teacher, self.resize)
        else:
            student, teacher = student[:, :, None, None], teacher[:, :, None, None]
        losses: dict[str, Tensor] = {}
        target = teacher
        if self.autoencoder is not None:
            encoded, reconstruction = self.autoencoder(teacher)
            losses["autoencoder"] = F.mse_loss(reconstruction, teacher)
            target = encoded.detach()
        target = at_least_float32(target)  # near timestep 0 the noise is too small for half precision
        denoised, gamma = self._denoise(at_least_float32(self.student_projection(student)), moment)
        if self.predictor is not None:
            losses["diffusion"] = diffusion_loss(target, self.alphas, self.predictor, moment)
        return Latents(self.output_projection(denoised), target, losses, gamma)

    def compare(self, latents: Latents, batch: Batch) -> Tensor:
        """Return the distance of both latents; vectors are compared as B,C."""
        student, teacher = latents.student, latents.teacher
        if not self.spatial:
            student, teacher = student.flatten(1), teacher.flatten(1)
        return self.distance.distance(student, teacher, batch)

    def _denoise(self, latent: Tensor, moment: Moment) -> tuple[Tensor, Tensor | None]:
        gamma = None
        if self.adapter is not None:
            gamma = self.adapter(latent)
            share = gamma.view(-1, 1, 1, 1)
            latent = share * latent + (1 - share) * moment.normal_like(latent)
        if self.predictor is not None:
            latent = denoise(latent, self.steps, self.predictor)
        return latent, gamma
