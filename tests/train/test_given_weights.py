"""Given weights are known by their bytes: a file exchanged for another is another teacher, or is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small import raw_record, record_of, run_suite, runs_of, store_in, write_suite

from benchmark.cli import requests
from benchmark.cli.distill import asked
from benchmark.cli.parser import main
from benchmark.errors import MissingInput
from benchmark.models.registry import model
from benchmark.plan.experiment import Run
from benchmark.train import checkpoint
from benchmark.train.weights import weights_file


def saved(path: Path, seed: int, name: str = "resnet14", classes: int = 100) -> str:
    """Write a network with fresh weights; return the sha256 of its file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        torch.save(model(name).build(classes).state_dict(), path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def kd_suite(folder: Path, name: str, teacher: dict[str, Any], **setting: Any) -> Path:
    rows = {"KD": {"method": "kd"}}
    return write_suite(folder / f"{name}.yaml", rows, setting={"teacher": {"model": "resnet14", **teacher}, **setting})


def stopped_after(save: Any) -> Any:
    """Write one checkpoint, then Ctrl-C."""

    def stopping(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    return stopping


@pytest.mark.parametrize("known", ["a run in progress", "a record", "a record of an earlier version"])
def test_a_teacher_exchanged_between_two_repetitions_is_refused(
    known: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = saved(workplace / "teacher.pt", seed=1)
    suite = kd_suite(workplace, "exchanged", {"weights": "teacher.pt"})
    run = runs_of(suite)["KD"]
    note = workplace / "runs" / "work" / f"{run.experiment.identity}-weights.json"
    if known == "a run in progress":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint, "save", stopped_after(checkpoint.save))
            assert run_suite(suite, "--checkpoint-seconds", "0") == 130
    else:
        assert run_suite(suite) == 0
        assert record_of(run, workplace).weight_files == {"teacher": {"file": "teacher.pt", "sha256": first}}
        note.unlink()
    if known == "a record of an earlier version":
        content = raw_record(run, workplace)
        del content["weight_files"]
        store_in(workplace).paths(run).record.write_text(json.dumps(content))
    second = saved(workplace / "teacher.pt", seed=2)
    assert run_suite(suite, "--seeds", "2") == 1
    shown = capsys.readouterr().err
    assert "teacher.pt holds other bytes than in" in shown
    assert "with the new file's `sha256` in the suite it is another experiment" in shown
    assert store_in(workplace).read(Run(run.experiment, 1)) is None
    # with the hash in the suite it is another experiment, whose record says so
    pinned = kd_suite(workplace, "pinned", {"weights": "teacher.pt", "sha256": second})
    assert run_suite(pinned) == 0
    assert record_of(runs_of(pinned)["KD"], workplace).weight_files["teacher"]["sha256"] == second
    assert runs_of(pinned)["KD"].experiment.identity != run.experiment.identity


def test_a_first_use_that_led_to_nothing_blocks_nobody(workplace: Path) -> None:
    """The wrong file was named, the run was stopped at once, and the right one put in its place."""
    saved(workplace / "teacher.pt", seed=1)
    suite = kd_suite(workplace, "corrected", {"weights": "teacher.pt"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", stopped_after(lambda *arguments: None))
        assert run_suite(suite, "--checkpoint-seconds", "0") == 130
    right = saved(workplace / "teacher.pt", seed=2)
    assert run_suite(suite) == 0
    assert record_of(runs_of(suite)["KD"], workplace).weight_files["teacher"]["sha256"] == right


def test_a_students_start_is_held_and_pinned_alike(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = saved(workplace / "start.pt", seed=1, name="resnet8")

    def suite_with(name: str, **setting: Any) -> Path:
        rows = {"Student": {"method": "none"}}
        return write_suite(workplace / f"{name}.yaml", rows, setting={"student_weights": "start.pt", **setting})

    by_name, by_hash = suite_with("named"), suite_with("hashed", student_weights_sha256=first)
    assert run_suite(by_name, "--only", "Student") == 0
    assert record_of(runs_of(by_name)["Student"], workplace).weight_files["student"]["sha256"] == first
    moved = suite_with("moved", student_weights="elsewhere.pt", student_weights_sha256=first)
    assert runs_of(moved)["Student"].experiment.identity == runs_of(by_hash)["Student"].experiment.identity
    saved(workplace / "start.pt", seed=2, name="resnet8")
    assert run_suite(by_name, "--only", "Student", "--seeds", "2") == 1
    assert "start.pt holds other bytes than in" in capsys.readouterr().err
    assert run_suite(by_hash, "--only", "Student") == 3
    assert "start.pt is not the pinned file" in capsys.readouterr().err


def test_two_addresses_that_end_alike_are_two_files(workplace: Path) -> None:
    store = store_in(workplace)
    hashes = [saved(workplace / place / "best.pth", seed) for seed, place in enumerate("ab")]
    files = [weights_file((workplace / place / "best.pth").as_uri(), store) for place in "ab"]
    assert [file.sha256 for file in files] == hashes
    shutil.rmtree(workplace / "a")
    assert weights_file((workplace / "a" / "best.pth").as_uri(), store).sha256 == hashes[0], "fetched once"


def test_what_was_hashed_is_what_is_loaded(workplace: Path) -> None:
    """The file is exchanged after it was read and checked."""
    sha = saved(workplace / "teacher.pt", seed=1)
    file = weights_file("teacher.pt", store_in(workplace), sha)
    before = file.tensors()
    saved(workplace / "teacher.pt", seed=2)
    assert all(torch.equal(before[name], tensor) for name, tensor in file.tensors().items())
    with pytest.raises(MissingInput, match="is not the pinned file"):
        weights_file("teacher.pt", store_in(workplace), sha)


def test_eval_says_which_bytes_were_evaluated(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sha = saved(workplace / "teacher.pt", seed=1)
    assert main(["eval", "resnet14", "--data", "generated", "--weights", "teacher.pt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file_sha256"] == sha


def test_distill_takes_an_exchanged_file_for_another_teacher(workplace: Path) -> None:
    """Its identity was the file's path, so the student of the old teacher was exported."""
    for split in ("train", "val"):
        for name in ("x", "y"):
            (workplace / "images" / split / name).mkdir(parents=True)
            shutil.copy(Path(__file__).parents[2] / "docs" / "report.png", workplace / "images" / split / name)
    arguments = requests.Distill(
        student="timm:resnet10t", teacher="timm:resnet10t", student_taps=None, teacher_taps=None, method="kd",
        recipe="B1", epochs=1, batch=2, lr=None, image_size=64, data=workplace / "images", precision="fp32",
        teacher_weights="teacher.pt", student_weights="start.pt", out=workplace / "student.pt",
        device="cpu", threads=1, workers=None, checkpoint_seconds=60.0,
    )  # fmt: skip
    identities = []
    for teacher, start in ((1, 1), (2, 1), (2, 2), (2, 2)):
        saved(workplace / "teacher.pt", teacher, "timm:resnet10t", 2)
        saved(workplace / "start.pt", start, "timm:resnet10t", 2)
        identities.append(asked(arguments).experiment.identity)
    assert len(set(identities)) == 3
    # by an address, and among fetched weights, it is the same file
    arguments = replace(arguments, teacher_weights=(workplace / "teacher.pt").as_uri())
    fetched = workplace / "student.work" / "runs" / "weights"
    fetched.mkdir(parents=True)
    (workplace / "start.pt").rename(fetched / "start.pt")
    assert asked(arguments).experiment.identity == identities[-1]
    saved(workplace / "teacher.pt", 3, "timm:resnet10t", 2)
    assert asked(arguments).experiment.identity not in identities
