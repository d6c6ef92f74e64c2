"""Refuses runs whose recipe would be trained only in part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.errors import UsageError
from benchmark.paper.fitting import fitting, honoured_by, misfit
from benchmark.paper.recipe import recipes

if TYPE_CHECKING:
    from benchmark.plan.experiment import Experiment


def require(experiment: Experiment) -> dict[str, str]:
    """Return the settings that an experiment's recipe ignores, for example `color_jitter 0.4`, and why. Usually empty.

    Raises:
        UsageError: the task supports only a part of the recipe.
    """
    recipe, named = experiment.recipe, recipes().get(experiment.recipe_name)
    if recipe is None:
        return {}
    task, data, ignored = experiment.task, experiment.data.name, named.ignored if named is not None else {}
    if problem := misfit(recipe, ignored, task, data):
        raise UsageError(problem, f"leave it out, or take one of these recipes: {fitting(task, data)}")
    unsupported = honoured_by(task, data).unsupported(recipe)
    return {words: ignored[name] for name, words in unsupported.items()}
