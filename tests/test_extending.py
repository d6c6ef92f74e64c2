"""The examples of CONTRIBUTING.md as printed: a method, a network, a data set and a table, each in one file."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import forked
import pytest
import torch
from small import ROOT, call, data_of, record_of, run_suite, runs_of, settings_in, write_suite

from benchmark.cli.parser import main
from benchmark.data.class_folders import MARKER
from benchmark.data.generated_folder import Request, generate
from benchmark.models.registry import model, models
from benchmark.paper.manifest import load
from benchmark.train.classification.training import Training
from benchmark.train.trainer import record_from
from methods.registry import method, methods

BLOCK = re.compile(r"^```(?:python|yaml)\n# (?P<path>\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES = {found["path"]: found["text"] for found in BLOCK.finditer((ROOT / "CONTRIBUTING.md").read_text())}
METHOD, NETWORK, TABLE = "methods/cosine.py", "benchmark/models/tiny.py", "suites/mine.yaml"
DATA_SET = "benchmark/paper/datasets/flowers.py"


@pytest.fixture
def own(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the guide's method and network."""
    folder = workplace / "mine"
    folder.mkdir()
    for path in (METHOD, NETWORK):
        (folder / Path(path).name).write_text(EXAMPLES[path])
    monkeypatch.setenv("BENCHMARK_EXTRA", str(folder))
    return folder


def test_the_guide_has_an_example_of_each() -> None:
    assert set(EXAMPLES) == {METHOD, NETWORK, TABLE, DATA_SET}
    assert len(EXAMPLES[METHOD].splitlines()) <= 40


def test_a_method_in_one_file_runs_through_a_suite_to_a_result_row(
    own: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {"KD": {"method": "kd"}, "Mine": {"method": {"cosine": {"weight": 4}}}}
    suite = write_suite(workplace / "tried.yaml", rows)
    assert run_suite(suite) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^\| Mine +\| \d+\.\d\d \(1\) \|$", shown, re.MULTILINE)
    record = record_of(runs_of(suite)["Mine"], workplace)
    assert record.status == "done"
    assert record.experiment.method == {"cosine": {"weight": 4.0}}
    assert record.tracked["cosine"] == pytest.approx(4 * (1 - record.tracked["similarity"]), rel=1e-4)
    assert record.tracked["total"] == pytest.approx(record.tracked["task"] + record.tracked["cosine"], rel=1e-4)


def test_its_options_are_checked_and_shown_like_any_others(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "method", "cosine", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["options"] == {"weight": {"default": 2.0, "what": "of the term", "source": "ours"}}
    assert shown["what"].startswith("Cosine: turn the student's embedding")
    suite = write_suite(own.parent / "wrong.yaml", {"Mine": {"method": {"cosine": {"weigth": 4}}}})
    assert main(["plan", str(suite)]) == 2
    assert "cosine.weigth: no such option; did you mean 'weight'?" in capsys.readouterr().err


def test_it_is_listed_without_torch_and_composes_with_others(own: Path) -> None:
    assert method("cosine").path == own / "cosine.py"
    suite = write_suite(own.parent / "sum.yaml", {"Sum": {"method": "cosine+kd"}})
    assert run_suite(suite) == 0
    assert {"cosine.cosine", "kd.kd"} < set(record_of(runs_of(suite)["Sum"], own.parent).tracked)


def test_its_side_network_is_trained_and_not_exported(own: Path, workplace: Path) -> None:
    suite = write_suite(workplace / "side.yaml", {"Mine": {"method": "cosine"}})
    assert run_suite(suite) == 0
    run, settings = runs_of(suite)["Mine"], settings_in(workplace)
    training = Training(run, data_of(run.experiment, settings), settings)
    before = [p.detach().clone() for p in training.parts.distiller.method.parameters()]
    record_from(training.advancing())
    assert before
    assert all(not torch.equal(a, b) for a, b in zip(before, training.parts.distiller.method.parameters(), strict=True))
    exported = torch.load(settings.store.paths(run).student, weights_only=True)
    assert exported.keys() == model("resnet8").build(100).state_dict().keys()


def test_a_network_in_one_file_is_student_and_teacher(own: Path, workplace: Path) -> None:
    assert {"tiny8", "tiny16"} <= set(models())
    rows = {"KD": {"method": "kd"}, "DiffKD": {"method": "diffkd"}, "FitNet": {"method": "fitnet"}}
    suite = write_suite(workplace / "tiny.yaml", rows, setting={"teacher": "tiny16", "student": "tiny8"})
    assert run_suite(suite) == 0
    runs = runs_of(suite)
    assert {record_of(run, workplace).status for run in runs.values()} == {"done"}
    assert runs["KD"].experiment.pair == "tiny16-tiny8"


def test_show_model_prints_its_taps(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "model", "tiny8", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert set(shown["taps"]) >= {"stage1", "stage2", "stage3", "pre_pool", "embedding", "logits"}
    assert shown["parameters, 100 classes"] == 224 + 1168 + 4640 + 3300


def test_the_guides_table_is_a_valid_manifest(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = workplace / Path(TABLE).name
    path.write_text(EXAMPLES[TABLE])
    cells = {cell.row: cell for cell in load(path).cells}
    assert (cells["DiffKD"].value, cells["DiffKD"].std, cells["KD"].standing) == (71.92, 0.14, "cited")
    assert main(["plan", str(path)]) == 0
    assert "cifar100/resnet56-resnet20/diffkd #2" in capsys.readouterr().out


@pytest.mark.slow
def test_a_data_set_in_one_file_is_listed_planned_and_trained_on(workplace: Path) -> None:
    copy = workplace / "copy"
    for name in ("benchmark", "methods", "suites"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / DATA_SET).write_text(EXAMPLES[DATA_SET])
    setting = {"data": "flowers", "recipe": "B1", "teacher": None}
    sizes = {"epochs": 1, "batch": 16, "image_size": 32, "train": 16, "test": 15}
    suite = write_suite(workplace / "mine.yaml", {"Student": {"method": "none"}}, setting, sizes)

    def said(*arguments: str) -> str:
        done = call(*arguments, PYTHONPATH=str(copy))
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed = {row["data"]: row for row in json.loads(said("list", "data", "--json"))}
    assert listed["flowers"]["state"] == "absent"
    assert re.fullmatch(r"Flowers is not in .*no-data or data", listed["flowers"]["found"])
    assert re.match(r"copy your photographs to .*no-data/flowers/train/KIND/", listed["flowers"]["fix"])
    assert "generated-imagefolder/resnet8/none #0" in said("plan", str(suite))
    folder = generate(workplace / "data" / "flowers", Request(classes=3, train=30, test=15, scale=0.1))
    (folder / MARKER).unlink()
    assert "data/flowers  3 classes, 30 training and 15 validation images" in said("list", "data")
    assert "flowers/resnet8/none #0: top-1 " in said("run", str(suite), "--device", "cpu", "--threads", "1")


def test_two_methods_of_one_name_are_told(own: Path, monkeypatch: pytest.MonkeyPatch, workplace: Path) -> None:
    other = workplace / "other"
    other.mkdir()
    (other / "kd.py").write_text(EXAMPLES[METHOD].replace("class Cosine", "class KD"))
    done = call("list", "methods", BENCHMARK_EXTRA=str(other))
    assert done.returncode == 2
    assert "two methods are named 'kd'" in done.stderr
    assert str(other / "kd.py") in done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("class Mine(Method:\n", "mine.py:1: "),
        (
            "LIMIT = 3\n\n\nclass Mine(Method):\n    class Options(MethodOptions):\n"
            '        a: int = option(LIMIT, "x", source="ours")\n',
            "mine.py:5: the Options of Mine use 'LIMIT'",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_its_line(content: str, message: str, workplace: Path) -> None:
    folder = workplace / "mine"
    folder.mkdir()
    (folder / "mine.py").write_text(content)
    done = call("list", "methods", BENCHMARK_EXTRA=str(folder))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_not_there_is_told(workplace: Path) -> None:
    done = call("list", "methods", BENCHMARK_EXTRA=str(workplace / "nowhere"))
    assert done.returncode == 2
    assert "which is not a folder" in done.stderr


def test_a_name_that_suites_still_wait_for_does_not_break_them(workplace: Path) -> None:
    folder = workplace / "early"
    folder.mkdir()
    (folder / "later.py").write_text(EXAMPLES[METHOD].replace("class Cosine", "class Later"))
    pending = write_suite(workplace / "pending.yaml", {"Later": {"method": "later", "pending": ["method later"]}})
    done = forked.call("plan", str(pending), BENCHMARK_EXTRA=str(folder))
    assert done.returncode == 0, done.stderr


def test_nothing_of_ones_own_is_left_in_the_project(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENCHMARK_EXTRA")
    assert "cosine" not in methods()
    assert "tiny8" not in models()
