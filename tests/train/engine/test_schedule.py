"""Learning rates of every schedule, against values worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from benchmark.paper.recipe import Recipe, recipe
from benchmark.train.engine.schedule import learning_rate


def schedule(**settings: Any) -> Recipe:
    return Recipe(**({"epochs": 100, "batch": 8, "lr": 1.0} | settings))


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 0.05), (149.99, 0.05), (150, 5e-3), (180, 5e-4), (210, 5e-5), (239.9, 5e-5)]
)
def test_recipe_a1_divides_by_ten_at_150_180_and_210(epoch: float, rate: float) -> None:
    assert learning_rate(recipe("A1").settings, epoch) == pytest.approx(rate)


def test_cosine_falls_from_the_rate_to_the_least() -> None:
    settings = schedule(schedule="cosine", min_lr=0.2)
    assert [learning_rate(settings, epoch) for epoch in (0, 50, 100)] == pytest.approx([1.0, 0.6, 0.2])
    assert learning_rate(settings, 25) == pytest.approx(0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2)


def test_poly_and_exponential_and_constant() -> None:
    assert learning_rate(schedule(schedule="poly"), 75) == pytest.approx(0.25**0.9)
    assert learning_rate(schedule(schedule="poly"), 100) == 0
    stepped = schedule(schedule="exponential", decay=0.97, decay_epochs=2.4)
    assert learning_rate(stepped, 2.39) == 1.0
    assert learning_rate(stepped, 24.0) == pytest.approx(0.97**10)
    assert learning_rate(schedule(schedule="constant"), 99) == 1.0


def test_warm_up_rises_in_a_straight_line() -> None:
    settings = schedule(schedule="constant", warmup_epochs=4, warmup_lr=0.2)
    assert [learning_rate(settings, epoch) for epoch in (0, 1, 2, 4)] == pytest.approx([0.2, 0.4, 0.6, 1.0])


def test_decay_begins_after_the_warm_up_where_the_source_says_so() -> None:
    stepped = schedule(schedule="exponential", decay=0.97, decay_epochs=2.4, warmup_epochs=3, after_warmup=True)
    assert [learning_rate(stepped, epoch) for epoch in (3, 5.39, 5.4, 27)] == pytest.approx([1, 1, 0.97, 0.97**10])
    cosine = schedule(schedule="cosine", min_lr=0.2, warmup_epochs=20, after_warmup=True)
    assert [learning_rate(cosine, epoch) for epoch in (10, 20, 60, 100)] == pytest.approx([0.5, 1.0, 0.6, 0.2])


@pytest.mark.parametrize(("name", "least"), [("B2", 0.97**2), ("B3", 0.88)])
def test_the_rates_of_b2_and_b3_were_too_low_before(name: str, least: float) -> None:
    settings = recipe(name).settings
    before = settings.model_copy(update={"after_warmup": False})
    begun = settings.warmup_epochs + 1.0
    epochs = [begun + (settings.epochs - begun) * step / 400 for step in range(400)]
    ratios = [learning_rate(before, epoch) / learning_rate(settings, epoch) for epoch in epochs]
    assert min(ratios) == pytest.approx(least, abs=2e-3)
    assert max(ratios) <= 1
