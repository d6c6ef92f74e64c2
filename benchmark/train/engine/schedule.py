"""Learning rates as a function of completed epochs."""

from __future__ import annotations

import math

from benchmark.paper.recipe import Recipe


def learning_rate(recipe: Recipe, epochs_done: float) -> float:
    """Return the learning rate after a (fractional) number of completed epochs.

    Step schedules change at whole epochs. An exponential or cosine schedule begins at epoch 0, as timm's do, or with
    `after_warmup` when the warm-up ends, as image_classification_sota's do.
    """
    if epochs_done < recipe.warmup_epochs:
        return recipe.warmup_lr + (recipe.lr - recipe.warmup_lr) * epochs_done / recipe.warmup_epochs
    begun = recipe.warmup_epochs if recipe.after_warmup else 0.0
    match recipe.schedule:
        case "constant":
            return recipe.lr
        case "step":
            passed = sum(epochs_done >= milestone for milestone in recipe.milestones)
            return float(recipe.lr * recipe.decay**passed)
        case "exponential":
            period = recipe.decay_epochs or 1.0
            return max(recipe.min_lr, recipe.lr * recipe.decay ** math.floor((epochs_done - begun) / period))
        case "cosine":
            share = (epochs_done - begun) / max(recipe.epochs - begun, 1e-9)
            half = (1 + math.cos(math.pi * min(1.0, share))) / 2
            return recipe.min_lr + (recipe.lr - recipe.min_lr) * half
        case "poly":
            left = max(0.0, 1 - epochs_done / recipe.epochs)
            return float(recipe.min_lr + (recipe.lr - recipe.min_lr) * left**recipe.power)
