"""The measurement of Table 12's noise predictors."""

import json
from pathlib import Path

import pytest

from benchmark.bench import predictors
from benchmark.bench.predictors import markdown, measured
from benchmark.cli.parser import main


def test_each_is_measured_in_turn_and_light_is_the_measure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = measured
    monkeypatch.setattr(predictors, "measured", lambda *given: small(*given, shape=(32, 6, 8)))
    assert main(["bench", "--predictors", "--rounds", "2", "--device", "cpu", "--output", str(tmp_path)]) == 0
    light, unet = json.loads((tmp_path / "predictors.json").read_text())
    assert (light["predictor"], unet["predictor"]) == ("light", "unet")
    assert light["time_ratio"] == 1.0
    assert unet["time_ratio"] > 1.5
    assert unet["time_low"] <= unet["time_ratio"] <= unet["time_high"]
    assert "| unet |" in capsys.readouterr().out


def test_parameters_and_multiply_adds_are_those_of_table_12() -> None:
    costs = [predictors._cost(name, {"light": [1.0], "unet": [3.0]}, predictors.SHAPE) for name in ("light", "unet")]
    assert (costs[0].params, costs[1].params) == (207_872, 13_287_680)
    assert costs[1].time_ratio == 3.0
    assert "| unet | 13.29 M | 9.17 G | 4.51 |" in markdown(costs, 2, 1, "cpu")
