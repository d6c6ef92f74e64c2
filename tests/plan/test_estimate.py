"""Estimates of dense runs: they depend on the size of the images and on their number."""

from __future__ import annotations

from pathlib import Path

from small import write_suite

from benchmark.paper.manifest import load
from benchmark.paper.suite import ProfileName
from benchmark.plan.estimate import plan_seconds
from benchmark.plan.experiment import Plan, Selection, make_plan

HOUR = 3600.0


def plan(folder: Path, profile_name: ProfileName, **profile: object) -> Plan:
    suite = write_suite(
        folder / "estimated.yaml",
        {"Student": {"method": "none"}},
        {"task": "segmentation", "data": "cityscapes", "student": "pspnet_resnet18", "recipe": "cityscapes-40k"},
        profile,
    )
    return make_plan([load(suite)], Selection(profile=profile_name, absent=frozenset({"cityscapes"})))


def test_a_small_segmentation_run_is_minutes_and_the_papers_is_days_on_a_cpu(tmp_path: Path) -> None:
    small = plan_seconds(plan(tmp_path, "smoke", epochs=60, train=4, test=4, batch=4, crop=[48, 96]), "cpu")
    assert 0 < small < HOUR / 6
    whole = plan_seconds(plan(tmp_path, "paper"), "cpu")
    assert 24 * HOUR < whole < 10_000 * HOUR


def test_twice_the_side_is_four_times_the_work(tmp_path: Path) -> None:
    profile = {"epochs": 10, "train": 4, "test": 4, "batch": 4}
    one, two = (plan_seconds(plan(tmp_path, "smoke", **profile, crop=[s, 2 * s]), "cpu") for s in (48, 96))
    assert abs(two / one - 4) < 1e-6
