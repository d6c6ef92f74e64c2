"""Measured speed: what `bench --speed` writes, and how estimates use it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmark.bench import speed
from benchmark.bench.speed import cases_of, copy_rate, matrix_rate
from benchmark.cli.parser import main
from benchmark.paper.manifest import load, suite_path
from benchmark.plan import estimate
from benchmark.plan.estimate import Measured, hardware_of, plan_seconds, seconds
from benchmark.plan.experiment import Selection, make_plan


@pytest.fixture(autouse=True)
def small_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "COPIED_BYTES", 2**20)
    monkeypatch.setattr(speed, "MATRIX", 128)


def test_the_command_measures_and_plan_uses_it(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["bench", "kd", "diffkd", "--speed", "--pair", "resnet14-resnet8", "--batch", "4", "--rounds", "2"]
    assert main([*line, "--device", "cpu", "--threads", "1"]) == 0
    shown = capsys.readouterr().out
    found = json.loads((workplace / "reports" / "speed.json").read_text())
    assert [(s["pair"], s["method"]) for s in found["speeds"]] == [
        ("resnet14-resnet8", "kd"),
        ("resnet14-resnet8", "diffkd"),
    ]
    for measured in found["speeds"]:
        assert measured["alone"] > 0 and measured["packed"] > 0 and measured["step"] == "eager"
        assert set(measured["shares"]) == {"teacher", "student", "method", "augmentation", "optimiser"}
        assert all(share >= 0 for share in measured["shares"].values())
    assert found["copy_gb_per_second"] > 0 and found["matrix_gflops"] > 0
    assert "table9" in found["suite_hours"] and "| table9 |" in shown
    assert all(hours["alone"] > 0 for hours in found["suite_hours"].values())
    kept = Measured.here(Path("runs"), "cpu", 1)
    assert kept is not None
    assert kept.rates["resnet14-resnet8/kd/4"] == found["speeds"][0]["alone"]


def test_an_estimate_takes_the_measured_rate_and_scales_the_others() -> None:
    plan = make_plan([load(suite_path("table9"))], Selection(only=("resnet56-resnet20",)))
    known = next(run.experiment for run in plan.runs if run.experiment.method.name == "diffkd")
    other = next(run.experiment for run in plan.runs if run.experiment.method.name == "kd")
    assert known.recipe is not None
    rate = known.recipe.epochs * 50_000 / (3 * estimate._training_seconds(known, "cpu"))  # three times slower
    measured = Measured("here", {f"{known.pair}/diffkd/{known.recipe.batch}": rate})
    scale = measured.scale([known, other], "cpu")
    assert scale == pytest.approx(3)
    assert seconds(known, "cpu", measured, scale) == pytest.approx(3 * seconds(known, "cpu"))
    assert plan_seconds(plan, "cpu", measured) == pytest.approx(3 * plan_seconds(plan, "cpu"))
    assert measured.rate(replace(known, student="resnet8")) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"hardware": "x"}', '{"hardware": "x", "rates": {"a": "b"}}'])
def test_a_spoilt_file_is_no_measurement(content: str, tmp_path: Path) -> None:
    (tmp_path / "speed.json").write_text(content)
    assert Measured.read(tmp_path) is None


def test_other_hardware_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "speed.json").write_text(json.dumps({"hardware": "another", "rates": {"a/b/64": 5.0}}))
    assert Measured.here(tmp_path, "cpu", 1) is None
    (tmp_path / "speed.json").write_text(json.dumps({"hardware": hardware_of("cpu", 1), "rates": {"a/b/64": 5.0}}))
    assert Measured.here(tmp_path, "cpu", 1) is not None
    assert Measured.here(tmp_path, "cpu", 2) is None


def test_a_rate_is_found_by_the_experiment_of_a_suite(tmp_path: Path) -> None:
    """Check that rates of plain students are found, whose experiments have no teacher."""
    plan = make_plan([load(suite_path("table9"))], Selection(only=("resnet56-resnet20",)))
    keys = {estimate.key_of(run.experiment) for run in plan.runs}
    assert {"resnet56-resnet20/diffkd/64", "resnet20/none/64", "resnet56/none/64"} <= keys


def test_a_suite_asks_for_each_pair_and_method_once() -> None:
    cases = cases_of([load(suite_path("table9")), load(suite_path("table9"))])
    assert ("resnet56-resnet20", "diffkd") in cases
    assert len(cases) == len(set(cases))


def test_rates_of_the_device_are_positive() -> None:
    assert copy_rate(torch.device("cpu"), 1) > 0
    assert matrix_rate(torch.device("cpu"), 1) > 0
