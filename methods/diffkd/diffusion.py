"""The noise schedule of DiffKD and its deterministic reversal (DDIM, Song et al., 2021, arXiv 2010.02502, eta 0)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.base import Moment

Variant = Literal["official", "paper", "june2023"]  # spelled out in Options, which are read without this file
Predictor = Callable[[Tensor, Tensor | int], Tensor]  # noisy B,C,H,W and its timestep, for all or each -> its noise

TIMESTEPS = 1000  # paper, appendix B.1
FIRST_BETA, LAST_BETA = 1e-4, 0.02  # the released code; the paper does not state them
PAPER_START = 500  # paper, appendix B.1: the initial timestep for denoising


def alphas_cumprod() -> Tensor:
    """Return the share of the signal's variance that is left at each timestep: TIMESTEPS values.

    Values are float32 whatever the training's type, as in the released code: a float64 table moves the losses by 1e-7.
    """
    betas = torch.linspace(FIRST_BETA, LAST_BETA, TIMESTEPS, dtype=torch.float32, device="cpu")
    return torch.cumprod(1.0 - betas, dim=0)


@dataclass(frozen=True)
class DenoisingStep:
    """One denoising step from `timestep` to an earlier one: linear in the noisy tensor and in its predicted noise.

    The factors are plain numbers, so that a step reads no table on the device and never waits for the host.
    """

    timestep: int
    keep: float
    add: float

    @classmethod
    def between(cls, timestep: int, alpha: float, earlier_alpha: float) -> DenoisingStep:
        """Return the step from signal share `alpha` to `earlier_alpha`, without clipping the sample between them."""
        keep = sqrt(earlier_alpha / alpha)
        return cls(timestep, keep, sqrt(1 - earlier_alpha) - keep * sqrt(1 - alpha))

    def __call__(self, noisy: Tensor, noise: Tensor) -> Tensor:
        """Return the tensor one step cleaner; all shapes are equal."""
        return self.keep * noisy + self.add * noise


def denoising_timesteps(variant: Variant, nfe: int) -> list[int]:
    """Return the timesteps at which the noise predictor is evaluated, noisiest first.

    `official` and `june2023` take the later half of a grid of `2 nfe` timesteps (5: 400, 300, 200, 100, 0); `paper`
    takes `nfe` even steps from timestep 500 down to 0 (5: 500, 400, 300, 200, 100).
    """
    if variant == "paper":
        return [PAPER_START * left // nfe for left in range(nfe, 0, -1)]
    return [step * (TIMESTEPS // (2 * nfe)) for step in reversed(range(nfe))]


def denoising_steps(variant: Variant, nfe: int) -> tuple[DenoisingStep, ...]:
    """Return the DDIM steps of one denoising, none for `nfe` 0."""
    if nfe == 0:
        return ()
    alphas = alphas_cumprod().double().tolist()
    timesteps = denoising_timesteps(variant, nfe)
    # The last step leads out of the released grid, to the clean sample, and in the paper's to timestep 0.
    shares = [alphas[t] for t in timesteps] + [alphas[0] if variant == "paper" else 1.0]
    return tuple(DenoisingStep.between(t, *between) for t, between in zip(timesteps, pairwise(shares), strict=True))


def denoise(noisy: Tensor, steps: Sequence[DenoisingStep], predictor: Predictor) -> Tensor:
    """Return the denoised tensor, B,C,H,W. Gradients flow through every step."""
    for step in steps:
        noisy = step(noisy, predictor(noisy, step.timestep))
    return noisy


def diffusion_loss(clean: Tensor, alphas: Tensor, predictor: Predictor, moment: Moment) -> Tensor:
    """Return the mean squared error of the noise predicted in `clean`, B,C,H,W, each sample at its own timestep."""
    noise = moment.normal_like(clean)
    timesteps = moment.integers(TIMESTEPS, (len(clean),), clean.device)
    share = alphas[timesteps].view(-1, 1, 1, 1)
    noisy = share.sqrt() * clean + (1 - share).sqrt() * noise
    return F.mse_loss(predictor(noisy, timesteps), noise)
