"""A real, published ResNet-56 on the real test images: the whole path from file to accuracy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from benchmark.cli.parser import main
from benchmark.data.locate import find_cifar100, resolve
from benchmark.models.taps import Network
from benchmark.paper.suite import TeacherSpec
from benchmark.plan.experiment import Data
from benchmark.records import frame
from benchmark.records.store import Store
from benchmark.train.classification.classification_task import load_data
from benchmark.train.engine.teacher import load_teacher
from benchmark.train.engine.testing import evaluate

ROOT = Path(__file__).resolve().parents[3]
SHARED = Path(os.environ.get("BENCHMARK_SHARED_DATA", ROOT.parent / "shared" / "data"))
CHECKPOINT = SHARED / "checkpoints" / "resnet56_cifar100_66.41.pth"
SHA256 = "003ab840c90fed49e71fd1fca6167598a57c3b62d34afa00ceaebe1aba5a535b"


@pytest.fixture
def spec() -> TeacherSpec:
    if not CHECKPOINT.is_file():
        pytest.skip(f"no ResNet-56 checkpoint at {CHECKPOINT}")
    return TeacherSpec(model="resnet56", weights=str(CHECKPOINT), sha256=SHA256, published=66.41)


def test_the_checkpoint_scores_what_it_must_on_a_tenth_of_the_test_images(
    spec: TeacherSpec, cifar100_dir: Path, tmp_path: Path
) -> None:
    """That it scores what was published, 66.41 on all of them, is found by `eval` (test_eval, slow)."""
    teacher = load_teacher(spec, 100, Store(tmp_path / "results", tmp_path / "runs"))
    source = resolve("cifar100", cifar100_dir, allow_download=False, allow_generated=False)
    data = load_data(Data("cifar100", test=1000), source, torch.device("cpu"))
    frozen: Network = teacher.frozen()
    metrics = evaluate(frozen, data, "fp32")
    assert metrics["top1"] == pytest.approx(64.9, abs=0.005)
    assert metrics["top5"] == pytest.approx(89.4, abs=0.005)


def test_a_suite_can_take_given_weights_as_teacher_and_as_row(
    spec: TeacherSpec, cifar100_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_cifar100(cifar100_dir) is not None
    suite = tmp_path / "given.yaml"
    suite.write_text(f"""
suite: given
title: given weights
source: ours
profile: smoke
setting:
  data: cifar100
  recipe: A1
  student: resnet8
  teacher: {{model: resnet56, weights: "{CHECKPOINT}", sha256: {SHA256}, published: 66.41}}
profiles: {{smoke: {{epochs: 1, train: 128, test: 200}}}}
columns: [{{column: Top-1, metric: top1}}]
rows:
  - {{row: Teacher, subject: teacher}}
  - {{row: KD, method: kd}}
""")
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(suite), "--data-dir", str(cifar100_dir), "--threads", "1"]) == 0
    records = frame(tmp_path / "results", tmp_path / "runs")
    given = records[records["recipe"].isna()].iloc[0]
    assert given["student"] == "resnet56" and 55 < given["last.top1"] < 78
    assert set(records["student"]) == {"resnet56", "resnet8"}
