"""The forward and the reverse process of KDiffusion. Equations are those of the slides.

Time is counted as the slides count it: n is the student's end, 0 the teacher's. Equations (4), (5), (8) and (10) hold
for amplitudes with `alpha^2 + beta^2 = 1`; (6) alone writes the squared ones of DDPM, and of it nothing is used but the
noise that it adds to a reverse step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import cos, pi, sqrt
from operator import mul
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

Schedule = Literal["cosine", "linear"]  # spelled out in Options, which are read without this file
Estimate = Literal["renoised", "mean", "sample"]

DDPM_STEPS, DDPM_FIRST, DDPM_LAST = 1000, 1e-4, 0.02  # Ho et al., 2020, arXiv 2006.11239, section 4


def amplitudes(schedule: Schedule, steps: int) -> list[float]:
    """Return the teacher's amplitudes at the ends of `steps` even steps from n to 0: `steps + 1` values, the last 1."""
    left = [step / steps for step in range(steps, -1, -1)]
    if schedule == "cosine":
        return [cos(pi / 2 * time) for time in left]
    spread = (DDPM_LAST - DDPM_FIRST) / (DDPM_STEPS - 1)
    kept = [1.0, *accumulate((1 - DDPM_FIRST - spread * t for t in range(DDPM_STEPS)), mul)]
    return [sqrt(kept[round(time * DDPM_STEPS)]) for time in left]


@dataclass(frozen=True)
class Step:
    """One reverse step: the amplitudes at its start, and the posterior that leads to its end.

    Plain numbers, so that a step reads no table on the device.
    """

    alpha: float  # the teacher's, at the start
    beta: float  # the student's
    u: float  # posterior mean u x_high + v x_0 and variance w sigma^2, equation (10)
    v: float
    w: float

    @classmethod
    def between(cls, high: float, low: float) -> Step:
        """Return the step from the teacher's amplitude `high`, at the noisier end, to `low`, at the cleaner end."""
        noise_high, noise_low, ratio = 1 - high**2, 1 - low**2, high / low
        added = 1 - ratio**2
        return cls(
            alpha=high,
            beta=sqrt(noise_high),
            u=noise_low * ratio / noise_high,
            v=added * low / noise_high,
            w=added * noise_low / noise_high,
        )

    def mix(self, teacher: Tensor, student: Tensor) -> Tensor:
        """Return the forward process at the step's start, equations (4) and (8); all shapes are equal."""
        return self.alpha * teacher + self.beta * student

    def reverse(self, noisy: Tensor, clean: Tensor) -> Tensor:
        """Return the posterior's mean at the step's end; all shapes are equal."""
        return self.u * noisy + self.v * clean


def reverse_steps(schedule: Schedule, steps: int) -> tuple[Step, ...]:
    """Return all steps from n to 0."""
    return tuple(Step.between(high, low) for high, low in pairwise(amplitudes(schedule, steps)))


def estimates(features: Sequence[Tensor], steps: Sequence[Step], how: Estimate) -> list[Tensor]:
    """Return the f of equation (12): the estimate of x at each step's start, from the features of the steps before it.

    Nothing comes before the first step, where x is the first feature itself, equation (3).

    Args:
        features: one for each step, noisiest first, of one shape.
        steps: as many.
        how: `renoised` is the forward process with the feature of the step before in place of the teacher. `mean`
            passes the posterior's mean to the next step; `sample` adds the noise of (6) to it.
    """
    first = features[0]
    if how == "renoised":
        return [step.mix(clean, first) for step, clean in zip(steps, (first, *features), strict=False)]
    found = [first]
    for step, clean in zip(steps[:-1], features[:-1], strict=True):
        mean = step.reverse(found[-1], clean)
        found.append(mean + sqrt(step.w) * first if how == "sample" else mean)
    return found


def reverse_loss(
    features: Sequence[Tensor], teacher: Tensor, noise: Tensor, steps: Sequence[Step], how: Estimate
) -> Tensor:
    """Return the loss of equation (12), averaged over elements and summed over the steps.

    Args:
        features: the student's, one for each step, noisiest first; each is its step's estimate of the teacher.
        teacher: of the same shape.
        noise: the student feature that the forward process mixes into the teacher's.
        steps: from n to 0.
        how: see `estimates`.
    """
    total = teacher.new_zeros(())
    for step, estimate, clean in zip(steps, estimates(features, steps, how), features, strict=True):
        target = step.reverse(step.mix(teacher, noise), teacher)
        total = total + F.mse_loss(step.reverse(estimate, clean), target)
    return total
