"""Measurement of Table 12: the parameters, multiply-adds and step time of each noise predictor on one pyramid level."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmark.bench.step_cost import interleaved
from benchmark.machine.saying import Say
from benchmark.machine.streams import generator
from benchmark.report.markdown_table import markdown_table
from benchmark.train import precision
from benchmark.verify.cost_check import ROLE, STATED_SHAPES
from benchmark.verify.side_networks import bare_pair, branch_costs
from methods.base import Batch, Moment
from methods.diffkd.diffkd import DiffKD
from methods.diffkd.networks import PREDICTORS

LIGHT = "light"
BATCH = 2  # images on each device in mmdet's schedules
SHAPE = STATED_SHAPES["table12"]


@dataclass(frozen=True)
class PredictorCost:
    """One noise predictor's cost. Time ratios are to the light predictor: median and quartiles over the rounds."""

    predictor: str
    params: int  # parameters of the noise predictor without its time embedding
    macs: int  # multiply-adds of one pass for one image
    step_ms: float
    time_ratio: float
    time_low: float
    time_high: float


class DiffusionStep:
    """One level of DiffKD's training, without the detectors: all denoising steps, backward, and the update."""

    def __init__(self, predictor: str, shape: tuple[int, ...], batch: int, device: str) -> None:
        self.method = predictor
        self.device = torch.device(device)
        options = DiffKD.Options.model_validate({"branches": ["feature"], "feature_tap": ROLE, "predictor": predictor})
        self.diffkd = DiffKD(options)
        self.diffkd.build(bare_pair(ROLE, shape))
        self.diffkd.to(self.device).train()
        self.optimizer = torch.optim.SGD(self.diffkd.parameters(), lr=1e-4)
        noise = generator("method-noise", 0, predictor, device=self.device)
        zero = torch.zeros((), device=self.device)
        self.moment = Moment(zero, zero, noise, step=zero)
        draw = generator("data", 0, device=self.device)
        self.student, self.teacher = (
            {ROLE: torch.randn((batch, *shape), generator=draw, device=self.device)} for _ in range(2)
        )
        self.student[ROLE].requires_grad_()
        labels = torch.zeros(batch, dtype=torch.int64)
        self.batch = Batch(self.student[ROLE], labels, labels)

    def step(self) -> None:
        """Train one step (forward, backward, update), and wait for the device."""
        losses = self.diffkd.losses(self.student, self.teacher, self.batch, self.moment)
        torch.stack(list(losses.terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self) -> float:
        """Return the seconds of one step."""
        began = time.perf_counter()
        self.step()
        return time.perf_counter() - began


def measured(batch: int, rounds: int, device: str, say: Say, shape: tuple[int, ...] = SHAPE) -> list[PredictorCost]:
    """Measure every noise predictor. They take turns step by step; the light one is first in the result."""
    names = sorted(PREDICTORS, key=lambda name: (name != LIGHT, name))
    with precision.arithmetic("fp32"):
        times = interleaved([DiffusionStep(name, shape, batch, device) for name in names], rounds, say)
    return [_cost(name, times, shape) for name in names]


def _cost(name: str, times: dict[str, list[float]], shape: tuple[int, ...]) -> PredictorCost:
    options = DiffKD.Options.model_validate({"branches": ["feature"], "feature_tap": ROLE, "predictor": name})
    [branch] = branch_costs(DiffKD(options), bare_pair(ROLE, shape)).values()
    ratios = [own / light for own, light in zip(times[name], times[LIGHT], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return PredictorCost(
        predictor=name,
        params=branch.predictor - branch.time_embedding,
        macs=branch.macs["predictor"],
        step_ms=round(1000 * statistics.median(times[name]), 2),
        time_ratio=round(middle, 3),
        time_low=round(low, 3),
        time_high=round(high, 3),
    )


def markdown(costs: Sequence[PredictorCost], batch: int, rounds: int, device: str) -> str:
    """Format a table and the meaning of its columns."""
    light = next(cost for cost in costs if cost.predictor == LIGHT)
    header = ("noise predictor", "params", "multiply-adds a pass", "to light", "step", "time / light", "quartiles")
    rows = [
        (
            found.predictor,
            f"{found.params / 1e6:.2f} M",
            f"{found.macs / 1e9:.2f} G",
            f"{found.macs / light.macs:.2f}",
            f"{found.step_ms:.0f} ms",
            f"{found.time_ratio:.2f}",
            f"{found.time_low:.2f} to {found.time_high:.2f}",
        )
        for found in costs
    ]
    threads = torch.get_num_threads()
    title = f"### Noise predictors of Table 12, batch {batch}, {device} with {threads} threads, {rounds} rounds"
    notes = (
        f"- One level of {'x'.join(map(str, SHAPE))} alone, without the detectors: five denoising steps and the noise"
        " predictor's own loss, forward and backward, and the update; predictors take turns.",
        "- Printed: 13.62 M and 650.77 G for the UNet, 0.21 M and 132.76 G for light, and 3.05 times the time.",
    )
    return "\n".join([title, "", markdown_table(header, rows), "", *notes]) + "\n"
