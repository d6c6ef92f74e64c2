"""Every product behind a number is computed in the precision that is recorded, whatever the process was set to."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from products import FP32, TF32, Watch, watched_products
from small import record_of, run_suite, runs_of, store_in, write_suite

from benchmark.bench import predictors, speed
from benchmark.cli.parser import main, parser
from benchmark.data.generated_folder import Request, generate
from benchmark.models.registry import model
from benchmark.records.store import Record, Store
from benchmark.train import precision
from benchmark.verify import exported_students
from benchmark.verify.findings import Findings

COMPUTING = {"run", "rerun", "eval", "bench", "distill", "export", "verify", "report"}  # each has a test here
OTHERS = {
    "bridge",  # its runs are those of `run`, in processes of their own
    "collect",
    "plan",
    "status",
    "cancel",
    "list",
    "show",
    "doctor",
}  # no number of theirs is of a network


@pytest.fixture
def watch() -> Iterator[Watch]:
    with watched_products() as watched:
        yield watched


def weights_of(name: str, path: Path, classes: int = 100) -> str:
    torch.manual_seed(0)
    torch.save(model(name).build(classes).state_dict(), path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def given_teacher(folder: Path, asked: str) -> Path:
    """A suite that evaluates given weights, and distils from them."""
    given = {"model": "resnet14", "weights": "t.pt", "sha256": weights_of("resnet14", folder / "t.pt"), "published": 1}
    rows: dict[str, dict[str, Any]] = {"Teacher": {"subject": "teacher"}, "DiffKD": {"method": "diffkd"}}
    small = {"epochs": 1, "train": 8, "test": 10, "batch": 4}
    return write_suite(folder / "given.yaml", rows, {"teacher": given, "precision": asked}, small)


def test_every_command_is_watched_or_computes_nothing() -> None:
    (commands,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert set(commands.choices) == COMPUTING | OTHERS, "put the new command into one of the two, with a test"


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
def test_run(asked: str, workplace: Path, watch: Watch) -> None:
    assert run_suite(given_teacher(workplace, asked)) == 0
    assert watch.found.keys() == {FP32}, watch.found


def test_a_run_in_tf32_also_measures_in_tf32(workplace: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what a record names as fp32, evaluations of given weights, stays fp32."""
    monkeypatch.setattr(precision, "check", lambda name, device: None)  # a CPU computes it as fp32
    suite = given_teacher(workplace, "tf32")
    assert run_suite(suite) == 0
    runs = runs_of(suite)
    named = {row: record_of(run, workplace).effective.precision for row, run in runs.items()}
    assert named == {"Teacher": "fp32", "DiffKD": "tf32"}
    evaluating = [place for place in watch.found[FP32] if "trainer.py:evaluate" in place]
    assert len(watch.found[FP32]) == len(evaluating) > 0
    asking = " ".join(watch.found[TF32])
    assert "assembly.py:assembled" in asking and "training.py:one_step" in asking and "_evaluated" in asking


def test_rerun(workplace: Path, watch: Watch) -> None:
    suite = given_teacher(workplace, "fp32")
    assert run_suite(suite) == 0
    watch.found.clear()
    record = store_in(workplace).paths(runs_of(suite)["DiffKD"]).record
    assert main(["rerun", str(record), "--device", "cpu"]) == 0
    assert watch.found.keys() == {FP32}, watch.found


def test_eval(workplace: Path, watch: Watch) -> None:
    generate(workplace / "images", Request(classes=3, train=3, test=3, scale=0.2))
    weights_of("resnet8", workplace / "w.pt", classes=3)
    line = ["eval", "resnet8", "--data", "images", "--weights", "w.pt", "--device", "cpu", "--threads", "1"]
    assert main([*line, "--workers", "0"]) == 0
    assert watch.found.keys() == {FP32}, watch.found


PAIR = ["--pair", "resnet14-resnet8", "--batch", "2", "--rounds", "1", "--device", "cpu", "--threads", "1"]


@pytest.mark.parametrize("more", [[], ["--speed"]])
def test_bench(more: list[str], workplace: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "COPIED_BYTES", 2**20)
    monkeypatch.setattr(speed, "MATRIX", 128)
    monkeypatch.setattr(speed, "suite_hours", lambda suites, found: {})
    assert main(["bench", "kd", *PAIR, *more]) == 0
    assert watch.found.keys() == {FP32}, watch.found


def test_bench_of_predictors(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictors, "PREDICTORS", ("light",))
    predictors.measured(1, 1, "cpu", lambda line: None, shape=(8, 4, 4))
    assert watch.found.keys() == {FP32}, watch.found


def test_distill_and_export(workplace: Path, watch: Watch) -> None:
    generate(workplace / "images", Request(classes=3, train=4, test=3, scale=0.2))
    weights_of("resnet14", workplace / "t.pt", classes=3)
    line = ["distill", "--teacher", "resnet14", "--student", "resnet8", "--teacher-weights", "t.pt", "--method", "kd"]
    line += ["--data", "images", "--out", "s.pt", "--epochs", "1", "--batch", "4", "--image-size", "32"]
    assert main([*line, "--device", "cpu", "--threads", "1", "--workers", "0"]) == 0
    (record,) = (r for r in Store(Path("s.work/results"), Path("s.work/runs")).all() if isinstance(r, Record))
    places = ["--results-dir", "s.work/results", "--runs-dir", "s.work/runs"]
    assert main(["export", record.identity, "--out", "again.pt", *places]) == 0
    assert watch.found.keys() == {FP32}, watch.found


def test_verify_exports(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exported_students, "methods", lambda: ["kd"])
    findings = Findings()
    exported_students.check(findings, lambda line: None)
    assert [found.output_equal for found in findings.exports] == [True]
    assert watch.found.keys() == {FP32}, watch.found


def test_the_teachers_metrics_are_kept_by_device_and_precision(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "check", lambda name, device: None)
    kept: list[set[Path]] = []
    for asked in ("fp32", "fp32", "tf32"):
        assert run_suite(given_teacher(workplace, asked), "--only", "DiffKD") == 0
        kept.append(set((workplace / "runs" / "teachers").iterdir()))
    assert [len(files) for files in kept] == [1, 1, 2]
    gpu: Callable[[object], str] = lambda device: "NVIDIA H200"  # noqa: E731
    monkeypatch.setattr(torch.cuda, "get_device_name", gpu)
    assert precision.circumstances("tf32", torch.device("cuda:1")) == ["cuda", "NVIDIA H200", "tf32"]
    assert precision.circumstances("fp32", torch.device("cpu")) == ["cpu", "fp32"]
