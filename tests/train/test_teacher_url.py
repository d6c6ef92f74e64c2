"""Teachers whose weights are named by a URL."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from small import run_suite, write_suite

from benchmark.models.registry import model


def saved(path: Path) -> str:
    torch.manual_seed(0)
    torch.save(model("resnet14").build(100).state_dict(), path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_weights_are_fetched_once_and_checked(workplace: Path) -> None:
    remote = workplace / "remote.pt"
    sha = saved(remote)
    given = {"model": "resnet14", "weights": remote.as_uri(), "sha256": sha}
    suite = write_suite(workplace / "url.yaml", {"KD": {"method": "kd"}}, setting={"teacher": given})
    assert run_suite(suite) == 0
    remote.unlink()
    more = write_suite(workplace / "more.yaml", {"MSE": {"method": "mse"}}, setting={"teacher": given})
    assert run_suite(more) == 0


def test_a_url_that_gives_nothing_says_where_to_put_the_file(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"model": "resnet14", "weights": (workplace / "nowhere.pt").as_uri()}
    suite = write_suite(workplace / "url.yaml", {"KD": {"method": "kd"}}, setting={"teacher": given})
    assert run_suite(suite) == 3
    shown = capsys.readouterr().err
    assert "cannot download" in shown and "fetch it by hand to" in shown
