"""Teachers whose weights are named by a URL."""

from __future__ import annotations

import argparse
import hashlib
import tarfile
from pathlib import Path

import pytest
import torch
from small import record_of, run_suite, runs_of, write_suite

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


def test_a_mirror_and_an_archive_serve_where_the_first_address_does_not(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remote = workplace / "ckpt_epoch_240.pth"
    # As RepDistiller's training program saves it: options and more beside the tensors.
    torch.manual_seed(0)
    tensors = model("resnet14").build(100).state_dict()
    torch.save({"opt": argparse.Namespace(model="resnet14"), "model": tensors, "best_acc": torch.tensor(72.3)}, remote)
    with tarfile.open(workplace / "teachers.tar", "w") as archive:
        archive.add(remote, "cifar_teachers/resnet14_vanilla/ckpt_epoch_240.pth")
    remote.unlink()
    given = {
        "model": "resnet14",
        "weights": (workplace / "resnet14_vanilla" / "ckpt_epoch_240.pth").as_uri(),
        "mirror": f"{(workplace / 'teachers.tar').as_uri()}#cifar_teachers/resnet14_vanilla/ckpt_epoch_240.pth",
    }
    suite = write_suite(workplace / "mirror.yaml", {"KD": {"method": "kd"}}, setting={"teacher": given})
    assert run_suite(suite) == 0
    found = record_of(runs_of(suite)["KD"], workplace)
    assert found.weight_files["teacher"]["sha256"]
    without = {name: value for name, value in given.items() if name != "mirror"}
    plain = write_suite(workplace / "plain.yaml", {"KD": {"method": "kd"}}, setting={"teacher": without})
    assert runs_of(plain)["KD"].experiment.identity == runs_of(suite)["KD"].experiment.identity
    capsys.readouterr()
    wrong = given | {"weights": (workplace / "other.pth").as_uri(), "mirror": given["mirror"] + "x"}
    suite = write_suite(workplace / "wrong.yaml", {"KD": {"method": "kd"}}, setting={"teacher": wrong})
    assert run_suite(suite) == 3
    shown = capsys.readouterr().err
    assert "cannot download" in shown and "ckpt_epoch_240.pthx" in shown and "fetch it by hand to" in shown
    assert "deleted, it is fetched again" in shown  # the archive is kept for its other files, and may be damaged
