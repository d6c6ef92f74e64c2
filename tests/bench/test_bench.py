"""Measured cost: turns, ratios, memory, and their drawing."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmark.bench.drawing import markdown, svg
from benchmark.bench.step_cost import Bench, Cost, interleaved, parse_pair, peak, published_gains, run
from benchmark.cli.parser import main
from benchmark.errors import UsageError
from benchmark.paper.manifest import load, suite_path
from benchmark.train.settings import Settings


def quiet(line: str) -> None:
    pass


def test_the_peak_is_the_highest_level() -> None:
    assert peak([4, 4, -4, 8, -12]) == 12
    assert peak([-3, 2]) == 0


def test_a_pair_is_two_registered_networks() -> None:
    assert parse_pair("resnet56-resnet20") == ("resnet56", "resnet20")
    with pytest.raises(UsageError, match="resnet56"):
        parse_pair("resnet57-resnet20")


class Recorder:
    def __init__(self, method: str, log: list[str]) -> None:
        self.method, self.log = method, log

    def step(self) -> None:
        pass

    def seconds(self) -> float:
        self.log.append(self.method)
        return 1.0


def test_methods_take_turns_and_none_always_follows_the_same() -> None:
    log: list[str] = []
    times = interleaved([Recorder(name, log) for name in "abc"], 3, quiet)  # type: ignore[misc]
    assert "".join(log) == "abcbcacab"
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 3, "b": 3, "c": 3}


def test_costs_are_ratios_to_the_plain_student() -> None:
    bench = run(["kd", "reviewkd"], "resnet14-resnet8", 4, 2, Settings(say=quiet), quiet)
    plain, kd, reviewkd = bench.costs
    assert [cost.method for cost in bench.costs] == ["none", "kd", "reviewkd"]
    assert (plain.time_ratio, plain.memory_ratio, plain.counted_ratio) == (1, 1, 1)
    # Once the teacher beside three passes of the student: 26.7 M on 3 x 12.5 M.
    assert kd.counted_ratio == pytest.approx(1 + 26.66 / (3 * 12.51), abs=0.01)
    assert reviewkd.counted_ratio > kd.counted_ratio
    assert 1 < kd.memory_ratio < reviewkd.memory_ratio
    assert all(cost.time_low <= cost.time_ratio <= cost.time_high for cost in bench.costs)


def test_gains_are_those_that_a_table_prints() -> None:
    gains = published_gains([load(suite_path("table9"))], "resnet56-resnet20")
    assert gains["diffkd"] == (2.86, "table9")
    assert gains["kd"] == (1.6, "table9")
    assert published_gains([load(suite_path("table9"))], "resnet14-resnet8") == {}


def bench(*costs: Cost) -> Bench:
    return Bench("a-b", 64, 20, "cpu", 2, [*costs], {"ofd": "it needs batch norms"})


PLAIN = Cost("none", 10.0, 1.0, 1.0, 1.0, 50.0, 1.0, 1.0)
KD = Cost("k<d", 20.0, 2.0, 1.9, 2.2, 60.0, 1.2, 1.7, 1.6, "table9")


def test_the_table_is_sorted_by_time_and_says_what_it_measures() -> None:
    written = markdown(bench(KD, PLAIN))
    rows = [line for line in written.splitlines() if line.startswith("| ") and "---" not in line]
    assert [row.split()[1] for row in rows] == ["method", "none", "k<d"]
    assert "1.90 to 2.20" in written and "+1.60 (table9)" in written
    assert "ofd is left out: it needs batch norms" in written
    assert "profiler" in written


def test_the_drawing_is_svg_with_one_mark_for_each_gain() -> None:
    root = ElementTree.fromstring(svg(bench(PLAIN, KD)))
    circles = [node for node in root.iter() if node.tag.endswith("circle")]
    assert len(circles) == 1
    assert any(node.text == "k<d" for node in root.iter())
    assert svg(bench(PLAIN)) == ""


def test_the_command_writes_all_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["bench", "kd", "--pair", "resnet56-resnet20", "--batch", "2", "--rounds", "2", "--device", "cpu"]
    assert main([*line, "--output", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [cost["method"] for cost in found["costs"]] == ["none", "kd"]
    assert {path.name for path in tmp_path.iterdir()} == {"bench.json", "bench.md", "bench.svg"}
