"""A recipe's optimiser and schedule as configurations of MMEngine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from benchmark.paper.recipe import Recipe


def optim_wrapper(own: Mapping[str, Any], recipe: Recipe, precision_name: str) -> dict[str, Any]:
    """Return MMEngine's configuration of the recipe's optimiser.

    Per-parameter rules are taken from the network's own.
    """
    kept = own.get("optim_wrapper", {}).get("paramwise_cfg")
    settings: dict[str, Any] = {
        "type": "OptimWrapper",
        "optimizer": {
            "type": "SGD",
            "lr": recipe.lr,
            "momentum": recipe.momentum,
            "weight_decay": recipe.weight_decay,
        },
    }
    if precision_name in ("fp16", "bf16"):
        settings |= {"type": "AmpOptimWrapper", "dtype": {"fp16": "float16", "bf16": "bfloat16"}[precision_name]}
    if kept:
        settings["paramwise_cfg"] = kept
    if recipe.clip_grad is not None:
        settings["clip_grad"] = {"max_norm": recipe.clip_grad, "norm_type": 2}
    return settings


def schedulers(own: Mapping[str, Any], recipe: Recipe, steps_an_epoch: int, steps: int) -> list[dict[str, Any]]:
    """Return MMEngine's configuration of the recipe's schedule. The warm-up has the form of the network's own."""
    found: list[dict[str, Any]] = []
    warm = math.ceil(recipe.warmup_epochs * steps_an_epoch)
    if warm:
        warm = max(2, warm)  # MMEngine's warm-up of one step would keep its first rate for the whole training
        constant = any(entry["type"] == "ConstantLR" for entry in own.get("param_scheduler", ()))
        factor = recipe.warmup_lr / recipe.lr
        form = {"type": "ConstantLR", "factor": factor} if constant else {"type": "LinearLR", "start_factor": factor}
        found.append({**form, "by_epoch": False, "begin": 0, "end": warm})
    if recipe.schedule == "step" and recipe.milestones:
        milestones = list(recipe.milestones)
        found.append({"type": "MultiStepLR", "by_epoch": True, "begin": 0, "end": recipe.epochs})
        found[-1] |= {"milestones": milestones, "gamma": recipe.decay}
    if recipe.schedule == "poly":
        found.append({"type": "PolyLR", "by_epoch": False, "begin": warm, "end": steps})
        found[-1] |= {"power": recipe.power, "eta_min": recipe.min_lr}
    return found
