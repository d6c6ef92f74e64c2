"""Recipes that fit a task and a data set: every setting has an effect there, or is stated to have none."""

from __future__ import annotations

from collections.abc import Collection

from benchmark.paper.datasets import layout_of
from benchmark.paper.honoured import Honoured
from benchmark.paper.recipe import Recipe, recipes
from benchmark.paper.tasks import TASKS


def honoured_by(task: str, data: str | None) -> Honoured:
    """Return the settings that a task supports on a data set, by the names in manifests."""
    by_layout = TASKS[task].honours
    return by_layout.get(layout_of(data) or "", next(iter(by_layout.values())))


def misfit(recipe: Recipe, ignored: Collection[str], task: str, data: str | None) -> str:
    """Return an error text on settings that are neither supported nor ignored; an empty string if there are none."""
    honoured = honoured_by(task, data)
    wrong = [words for name, words in honoured.unsupported(recipe).items() if name not in ignored]
    return f"{', '.join(wrong)}: not supported; {honoured.described(recipe)}" if wrong else ""


def fitting(task: str, data: str | None) -> str:
    """Return the names of the recipes that a task supports on a data set, joined by commas."""
    return ", ".join(name for name, r in recipes().items() if not misfit(r.settings, r.ignored, task, data))
