"""A sum of methods is a method."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from small import record_of, run_suite, runs_of, write_suite

from benchmark.errors import UsageError
from methods.spec import MethodSpec


def test_a_sum_runs_through_a_suite_and_records_the_terms_of_each_part(workplace: Path) -> None:
    suite = write_suite(workplace / "sum.yaml", {"Sum": {"method": "kd + mse"}})
    assert run_suite(suite) == 0
    record = record_of(runs_of(suite)["Sum"], workplace)
    assert set(record.experiment.method) == {"kd", "mse"}
    parts = {name: record.tracked[name] for name in ("task", "kd.kd", "mse.mse")}
    assert all(math.isfinite(value) for value in parts.values())
    # KD leaves a tenth of the cross-entropy, in a sum as alone.
    expected = 0.1 * parts["task"] + parts["kd.kd"] + parts["mse.mse"]
    assert record.tracked["total"] == pytest.approx(expected, rel=1e-4)


def test_the_order_of_a_sum_is_no_part_of_what_it_is() -> None:
    one, other = MethodSpec.parse("kd + mse"), MethodSpec.parse([{"mse": {}}, "kd"])
    assert one.canonical() == other.canonical()
    assert one.canonical() != MethodSpec.parse("kd").canonical()


def test_a_method_twice_in_a_sum_is_refused() -> None:
    with pytest.raises(UsageError, match="twice"):
        MethodSpec.parse(["kd", {"kd": {"temperature": 2}}]).make()


def test_two_parts_that_change_the_weight_of_the_task_are_refused(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = workplace / "mine"
    folder.mkdir()
    source = (Path(__file__).resolve().parents[2] / "methods" / "kd.py").read_text()
    (folder / "second.py").write_text(source.replace("class KD(Method)", "class Second(Method)"))
    monkeypatch.setenv("BENCHMARK_EXTRA", str(folder))
    suite = write_suite(workplace / "both.yaml", {"Both": {"method": "kd + second"}})
    assert run_suite(suite) != 0
    assert "both change the weight of the task loss" in capsys.readouterr().err
