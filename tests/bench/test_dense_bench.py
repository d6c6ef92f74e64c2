"""`python -m benchmark.bench.dense`: the ratio of a method's step time to the plain student's."""

from __future__ import annotations

import re
from pathlib import Path

import detection_runs
import pytest
import segmentation_runs

from benchmark.bench import dense
from benchmark.errors import UsageError

LINE = re.compile(r"^(.+): ([\d.]+) x the plain student's step \(([\d.]+) to ([\d.]+), n (\d+)\)$")


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_the_command_prints_a_ratio_its_range_and_how_many(
    task: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = {"detection": detection_runs, "segmentation": segmentation_runs}[task]
    asked = [str(runs.suite(workplace)), "--only", "DiffKD", "--steps", "2", "--device", "cpu", "--threads", "1"]
    assert dense.main(asked) == 0
    circumstances, line = capsys.readouterr().out.splitlines()
    assert circumstances.endswith("cpu, 1 threads, profile smoke")
    found = LINE.match(line)
    assert found is not None, line
    middle, low, high = (float(found[group]) for group in (2, 3, 4))
    assert 0 < low <= middle <= high and int(found[5]) == 2
    assert "diffkd" in found[1]


def test_both_take_turns_and_the_first_turn_is_not_counted(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []

    class Clock:
        """A replacement for Stepping that notes the order of steps. The first step of the method is slow."""

        def __init__(self, run: object, settings: object) -> None:
            self.name, self.taken = run.experiment.method.name, 0  # type: ignore[attr-defined]

        def seconds(self) -> float:
            turns.append(self.name)
            self.taken += 1
            return 1.0 if self.name == "none" else [50.0, 2.0, 4.0, 3.0][self.taken - 1]

    monkeypatch.setattr(dense, "Stepping", Clock)
    run = detection_runs.runs_by_row(detection_runs.suite(workplace))["DiffKD"]
    found = dense.measure(run, detection_runs.settings_in(workplace), 3)
    assert turns == ["none", run.experiment.method.name] * 4
    assert found.ratios == (2.0, 4.0, 3.0)
    assert found.line.endswith(": 3.00 x the plain student's step (2.00 to 4.00, n 3)")


def test_a_suite_without_dense_rows_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no row of suite .* trains detection or segmentation with a teacher"):
        dense.main(["table9", "--device", "cpu"])
