"""Checkpoints: the newest that can be read is taken, whatever a killed or cut-off writer left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.engine import checkpoint


def number(path: Path) -> int | None:
    said: list[str] = []
    state = checkpoint.load(path, said.append)
    return None if state is None else int(state["number"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "checkpoint.pt"
    for value in (1, 2, 3):
        checkpoint.save(found, {"number": value, "weights": torch.zeros(1000)})
    return found


def test_the_last_is_taken_and_the_one_before_is_kept(path: Path) -> None:
    assert number(path) == 3
    assert number(checkpoint.previous(path)) == 2
    assert len(list(path.parent.iterdir())) == 2


def test_none_where_there_is_none(tmp_path: Path) -> None:
    assert number(tmp_path / "checkpoint.pt") is None


def test_an_unreadable_one_is_named_and_passed_over(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])
    said: list[str] = []
    state = checkpoint.load(path, said.append)
    assert state is not None
    assert state["number"] == 2
    assert len(said) == 1
    assert str(path) in said[0]


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
            checkpoint.save(path, {"number": deadly + 2 if deadly > 1 else 99, "weights": torch.zeros(1000)})
        monkeypatch.setattr(Path, "replace", original)
        assert number(path) == expected
        checkpoint.save(path, {"number": expected, "weights": torch.zeros(1000)})


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
