"""`distill` and `export`: from a folder of images to a student that works without this project."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from benchmark.cli.parser import main
from benchmark.data.generated_folder import Request, generate
from benchmark.models.registry import model
from benchmark.records.store import Record, Store

PAIR = ["--teacher", "torchvision:regnet_y_400mf", "--student", "timm:resnet10t"]
SMALL = ["--epochs", "1", "--batch", "8", "--lr", "0.01", "--image-size", "64", "--threads", "1", "--device", "cpu"]


@pytest.fixture
def folder(workplace: Path) -> Path:
    return generate(workplace / "images", Request(classes=3, train=16, test=9, scale=0.2))


def distil(*more: str) -> int:
    method = ["--method", "diffkd: {latent: 16, nfe: 1}"]
    return main(["distill", *PAIR, *method, "--data", "images", "--out", "student.pt", *SMALL, *more])


def records(folder: Path) -> list[Record]:
    store = Store(folder / "student.work" / "results", folder / "student.work" / "runs")
    return [record for record in store.all() if isinstance(record, Record)]


@pytest.mark.slow
def test_a_pair_on_a_folder_gives_a_student_that_timm_and_torch_alone_can_load(
    workplace: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = workplace / "teacher.pt"
    torch.save(model("torchvision:regnet_y_400mf").build(3).state_dict(), teacher)
    assert distil("--teacher-weights", str(teacher), "--student-taps", "stage3=layer2") == 0
    shown = capsys.readouterr().out
    assert "stage3           128x8x8          layer2" in shown
    assert "pre_pool         440x2x2          trunk_output" in shown
    assert "written to student.pt2" in shown
    (record,) = records(workplace)
    assert record.status == "done" and record.experiment.data.files
    network = timm.create_model("resnet10t", num_classes=3).eval()
    network.load_state_dict(torch.load("student.pt", weights_only=True))
    program = torch.export.load("student.pt2").module()
    for batch in (1, 5):
        images = torch.rand(batch, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(program(images), network(images), rtol=1e-4, atol=1e-5)
    # the same command finds everything done, and `export` gives the same student again
    assert distil("--teacher-weights", str(teacher), "--student-taps", "stage3=layer2") == 0
    places = ["--results-dir", "student.work/results", "--runs-dir", "student.work/runs"]
    assert main(["export", record.identity[:6], "--out", "again.pt", *places]) == 0
    first, again = (torch.load(name, weights_only=True) for name in ("student.pt", "again.pt"))
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.slow
def test_a_teacher_without_weights_is_trained_first(workplace: Path, folder: Path) -> None:
    assert distil() == 0
    students = {record.experiment.student: record for record in records(workplace)}
    assert set(students) == {"torchvision:regnet_y_400mf", "timm:resnet10t"}
    taught = students["timm:resnet10t"].teacher
    assert taught is not None
    assert taught.weights_sha256 == students["torchvision:regnet_y_400mf"].weights_sha256


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--recipe", "A1"], "augmentation crop-flip: not supported; classification of a folder of images honours"),
        (["--method", "difkd"], "did you mean 'diffkd'"),
        (["--method", "diffkd: {latnt: 3}"], "latnt"),
        (["--student-taps", "stage3=layer9"], "has no module 'layer9' for stage3"),
        (["--data", "nowhere"], "nowhere has no folder train/"),
    ],
)
def test_mistakes_are_told(
    workplace: Path, folder: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert distil(*more) in (2, 3)
    shown = capsys.readouterr().err
    assert said in shown and "fix:" in shown
    assert "Traceback" not in shown


def test_a_run_without_a_student_is_not_exported(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "abc"]) == 2
    assert "no run is 'abc'" in capsys.readouterr().err
