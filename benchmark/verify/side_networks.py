"""The cost of DiffKD's own modules, part by part, and the conventions by which a paper may have added them up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmark.models.counting import parameters
from benchmark.models.taps import Adapter, Network
from benchmark.verify.method_cost import build_on_meta
from methods.base import Method, Pair
from methods.diffkd.diffkd import Branch

Times = Mapping[str, float]

PARTS = ("projection", "encoder", "decoder", "predictor", "adapter", "output")

# Conventions: which branches, and how many times each part is counted. Training at T = 5 runs the noise predictor five
# times to denoise, and once more to train it (section 3.2).
EACH_ONCE = {"projection": 1, "encoder": 1, "decoder": 1}
SIDE_CONVENTIONS: Mapping[str, tuple[str, Times]] = {
    f"{what}, {count} {'pass' if count == 1 else 'passes'}": ("feature", {**others, "predictor": count})
    for what, others in (("noise predictor", {}), ("autoencoder, projection and noise predictor", EACH_ONCE))
    for count in (1, 2, 5, 6)
} | {
    "all feature modules, T = 5": ("feature", {**EACH_ONCE, "predictor": 6, "adapter": 1, "output": 1}),
    "all modules, T = 5": ("all", {**EACH_ONCE, "predictor": 6, "adapter": 1, "output": 1}),
}
PARAMETER_CONVENTIONS = ("noise predictor without its time embedding", "noise predictor", "all feature modules")


@dataclass(frozen=True)
class BranchCost:
    """The cost of a branch: the multiply-adds of each part for one image, and parameters."""

    macs: Mapping[str, int]
    predictor: int  # parameters of the noise predictor
    time_embedding: int  # parameters of its time embedding
    params: int  # parameters of all networks of the branch


def branch_costs(method: Method, pair: Pair) -> dict[str, BranchCost]:
    """Build DiffKD for a pair on the meta device, and return the cost of each branch."""
    built = build_on_meta(method, pair).to("meta").eval()
    found: dict[str, BranchCost] = {}
    for name, branch in built.get_submodule("branches").named_children():
        assert isinstance(branch, Branch)
        student, teacher = pair.student_shapes[branch.role], pair.teacher_shapes[branch.role]
        found[name] = _branch_cost(branch, student, teacher)
    return found


def _branch_cost(branch: Branch, student: tuple[int, ...], teacher: tuple[int, ...]) -> BranchCost:
    side = teacher[1:] or (1, 1)
    latent = (branch.student_projection.out_channels, *side)
    macs = dict.fromkeys(PARTS, 0)
    macs["projection"] = _macs(branch.student_projection, (student[0], *side))
    if branch.autoencoder is not None:
        macs["encoder"] = _macs(branch.autoencoder.encoder, (teacher[0], *side))
        macs["decoder"] = _macs(branch.autoencoder.decoder, latent)
    embedding = predictor = 0
    if branch.predictor is not None:
        macs["predictor"] = _macs(branch.predictor, latent, 0)
        predictor = parameters(branch.predictor)
        embedding = sum(parameters(m) for m in branch.predictor.modules() if isinstance(m, nn.Embedding))
    if branch.adapter is not None:
        macs["adapter"] = _macs(branch.adapter, latent)
    macs["output"] = _macs(branch.output_projection, latent)
    return BranchCost(macs, predictor, embedding, parameters(branch))


def _macs(module: nn.Module, shape: tuple[int, ...], *more: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.empty((1, *shape), device="meta"), *more)
    return int(counter.get_total_flops()) // 2


def added_up(costs: Mapping[str, BranchCost]) -> dict[str, float]:
    """Return each convention's sum in multiply-adds and, as `operations`, twice that."""
    found: dict[str, float] = {}
    for name, (which, times) in SIDE_CONVENTIONS.items():
        taken = [cost for branch, cost in costs.items() if which == "all" or branch != "logits"]
        if which == "all" and len(taken) == 1:
            continue  # with one branch, this convention is the same as that of the feature modules
        found[name] = sum(times.get(part, 0) * macs for cost in taken for part, macs in cost.macs.items())
    return found | {f"{name}, operations": 2 * value for name, value in found.items()}


def parameter_counts(costs: Mapping[str, BranchCost]) -> dict[str, float]:
    """Return one feature branch's parameter counts by convention. All levels of a pyramid have the same networks."""
    cost = next(cost for branch, cost in costs.items() if branch != "logits")
    values = (cost.predictor - cost.time_embedding, cost.predictor, cost.params)
    return dict(zip(PARAMETER_CONVENTIONS, map(float, values), strict=True))


def best_for_all(columns: Mapping[str, Mapping[str, float]], printed: Mapping[str, float]) -> str:
    """Return the one convention whose largest distance from a table's printed numbers is smallest."""
    names = next(iter(columns.values()))
    return min(names, key=lambda name: max(abs(columns[cell][name] - value) for cell, value in printed.items()))


def bare_pair(role: str, shape: tuple[int, ...]) -> Pair:
    """Return a pair of empty networks with one tap, which has the same shape in both."""
    nothing = Network(nn.Identity(), Adapter({}), ())
    return Pair(nothing, nothing, {role: shape}, {role: shape}, classes=1, dataset_size=1, task="detection")
