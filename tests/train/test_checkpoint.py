"""Checkpoints: the newest whole one of the run itself is taken; whatever else lies there is set aside and said."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.errors import BenchmarkError, StorageError
from benchmark.machine.plugins import ROOT
from benchmark.paper.manifest import load, suite_path
from benchmark.paper.recipe import Recipe
from benchmark.plan.experiment import Data, Experiment, Run, Selection, make_plan, plain
from benchmark.train import checkpoint


def run_of(student: str = "resnet8", repetition: int = 0) -> Run:
    recipe = Recipe(epochs=1, batch=8, lr=0.1)
    return Run(Experiment("classification", Data("generated"), student, plain(), recipe), repetition)


RUN = run_of()


def state_of(value: float) -> dict[str, Any]:
    """A little of everything that checkpoints hold."""
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(value)
    optimizer = {"state": {0: {"momentum": torch.ones(3) * value}}, "param_groups": [{"lr": value, "fused": True}]}
    return {
        "number": value,
        "distiller": network.state_dict(),
        "optimizer": optimizer,
        "rows": [{"epoch": 1.0, "test.top1": 100 / 3}],
        "names": ("a", "b"),
        "nothing": None,
    }


def number(path: Path, run: Run = RUN) -> int | None:
    said: list[str] = []
    found = checkpoint.load(path, run, said.append)
    return None if found is None else int(found.state["number"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "checkpoint.pt"
    for value in (1, 2, 3):
        checkpoint.save(found, state_of(value), RUN, value)
    return found


def test_the_last_is_taken_and_the_one_before_is_kept(path: Path) -> None:
    assert number(path) == 3
    assert number(checkpoint.previous(path)) == 2
    assert len(list(path.parent.iterdir())) == 2


def test_none_where_there_is_none(tmp_path: Path) -> None:
    assert number(tmp_path / "checkpoint.pt") is None


def test_a_cut_off_one_is_named_and_set_aside(path: Path) -> None:
    cut = path.read_bytes()[:-100]
    path.write_bytes(cut)
    said: list[str] = []
    found = checkpoint.load(path, RUN, said.append)
    assert found is not None
    assert found.state["number"] == 2
    assert len(said) == 1
    assert f"{path} cannot be read" in said[0]
    assert path.with_name("checkpoint.pt.damaged-1").read_bytes() == cut, "nothing is thrown away"
    assert not path.exists()


def test_no_single_flipped_bit_is_ever_believed(path: Path) -> None:
    """Every 7th byte, all of its bits in turn: the file is refused, or means just what it meant."""
    whole = path.read_bytes()
    meant = checkpoint.load(path, RUN)
    assert meant is not None
    flips = [(place, (place // 7) % 8) for place in range(0, len(whole), 7)]
    refused = 0
    for place, bit in flips:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        checkpoint.previous(path).unlink(missing_ok=True)
        found = checkpoint.load(path, RUN, lambda line: None)
        refused += found is None
        if found is not None:
            assert found.sha256 == meant.sha256
            assert checkpoint.content_sha256(found.state) == checkpoint.content_sha256(meant.state)
        for leftover in path.parent.glob("checkpoint.pt.*"):
            leftover.unlink()
    assert refused > len(flips) / 4, "most of the file means something"


def test_a_flipped_bit_in_the_weights_of_an_unsealed_one_is_seen(tmp_path: Path) -> None:
    """Format 1 carries no hash, but its archive has a CRC for each part, which torch does not look at."""
    keys = sorted(checkpoint._FORMAT_1[0])
    weights = torch.arange(4096.0)
    state = dict.fromkeys(keys, 0) | {"identity": RUN.experiment.identity, "repetition": 0, "distiller": weights}
    path = tmp_path / "checkpoint.pt"
    torch.save(state, path)
    whole = path.read_bytes()
    found = checkpoint.load(path, RUN)
    assert found is not None and not found.sealed
    start = whole.index(weights.numpy().tobytes())
    for place in range(start, start + 16384, 1111):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        said: list[str] = []
        assert checkpoint.load(path, RUN, said.append) is None
        assert "does not have the CRC that it carries" in said[0]


def test_a_disk_that_cannot_be_read_damages_no_checkpoint(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any, **more: Any) -> None:
        raise OSError(5, "Input/output error")

    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(StorageError, match="cannot read"):
        checkpoint.load(path, RUN)
    monkeypatch.undo()
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


def test_too_little_memory_says_nothing_about_a_checkpoint(path: Path) -> None:
    found = checkpoint.load(path, RUN)
    assert found is not None
    with pytest.raises(torch.OutOfMemoryError):
        checkpoint.refused(found, torch.OutOfMemoryError("CUDA out of memory"), print)
    with pytest.raises(BenchmarkError, match="was written by other code: ValueError"):
        checkpoint.refused(found, ValueError(), print)
    assert path.exists()


def test_a_checkpoint_of_another_run_or_repetition_is_set_aside(path: Path) -> None:
    for other in (run_of("resnet14"), run_of(repetition=1)):
        said: list[str] = []
        assert checkpoint.load(path, other, said.append) is None
        assert f"{path} belongs to another run ({RUN.experiment.identity} #0)" in said[0]
        for name in ("checkpoint.pt", "previous-checkpoint.pt"):
            path.with_name(f"{name}.foreign-1").replace(path.with_name(name))
    assert number(path) == 3


def test_one_of_a_later_format_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT", 3)
    checkpoint.save(path, state_of(4), RUN, 4)
    monkeypatch.undo()
    said: list[str] = []
    found = checkpoint.load(path, RUN, said.append)
    assert found is not None
    assert found.state["number"] == 3
    assert "has format 3, which this program does not know" in said[0]


def test_what_could_not_be_read_back_is_never_written(tmp_path: Path) -> None:
    for value in (Path("x"), np.float64(1.0), defaultdict(int)):
        with pytest.raises(TypeError, match="cannot hold a"):
            checkpoint.save(tmp_path / "checkpoint.pt", {"value": value}, RUN, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_writer_killed_after_each_of_its_moves_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moves = 0
    original = Path.replace

    def killed_before(self: Path, target: Any) -> Path:
        nonlocal moves
        moves += 1
        if moves == deadly:
            raise KeyboardInterrupt
        return original(self, target)

    for deadly, expected in ((1, 3), (2, 4), (3, 5)):
        moves = 0
        monkeypatch.setattr(Path, "replace", killed_before)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(path, state_of(deadly + 2 if deadly > 1 else 99), RUN, deadly)
        monkeypatch.setattr(Path, "replace", original)
        assert number(path) == expected
        checkpoint.save(path, state_of(expected), RUN, deadly)


def test_nothing_but_tensors_and_plain_values_is_ever_loaded(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"number": 1, "code": Path("x")}, path)
    assert number(path) is None


def test_a_finished_runs_checkpoints_are_removed(path: Path) -> None:
    checkpoint.remove(path)
    assert list(path.parent.iterdir()) == []
    checkpoint.remove(path)


def test_the_hash_of_weights_sees_names_shapes_types_and_values_and_nothing_else() -> None:
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(0)}
    reference = checkpoint.tensors_sha256(state)
    same = {"b": torch.zeros(0), "a": torch.arange(6.0).reshape(3, 2).reshape(2, 3).clone()}
    assert checkpoint.tensors_sha256(same) == reference
    assert checkpoint.tensors_sha256({"a": state["a"].t().contiguous().t(), "b": state["b"]}) == reference
    for other in (
        {"c": state["a"], "b": state["b"]},
        {"a": state["a"].reshape(3, 2), "b": state["b"]},
        {"a": state["a"].double(), "b": state["b"]},
        {"a": state["a"].nextafter(torch.tensor(9.0)), "b": state["b"]},
    ):
        assert checkpoint.tensors_sha256(other) != reference


def test_long_runs_begun_by_an_earlier_version_can_be_continued(tmp_path: Path) -> None:
    """Copies of two checkpoints of Table 9's own runs, where they are there: found, theirs, and not sealed yet."""
    campaign = (
        Path(os.environ.get("BENCHMARK_SHARED_DATA", ROOT.parent / "shared" / "data")).parent / "campaign" / "work"
    )
    if not campaign.is_dir():
        pytest.skip(f"needs checkpoints of long runs: no {campaign}")
    plan = make_plan([load(suite_path("table9"))], Selection(only=("resnet20",), seeds=1))
    found = 0
    for run in plan.runs:
        saved = campaign / f"{run.experiment.identity}-r0" / "checkpoint.pt"
        if saved.is_file():
            copy = tmp_path / run.experiment.identity / "checkpoint.pt"
            copy.parent.mkdir()
            shutil.copy(saved, copy)
            read = checkpoint.load(copy, run)
            assert read is not None and not read.sealed
            assert read.state["epoch"] > 0
            found += 1
    assert found == len(list(campaign.iterdir()))
