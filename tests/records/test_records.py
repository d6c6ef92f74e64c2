"""Run records: what they hold, how small they are, what cannot be used, and the pandas view."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small import raw_record, record_of, run_suite, runs_of, store_in, write_suite

from benchmark.cli.parser import main
from benchmark.data.locate import FILES
from benchmark.errors import StorageError
from benchmark.paper.manifest import load
from benchmark.plan.experiment import Run, Selection, make_plan
from benchmark.records import frame
from benchmark.records.dataframe import COLUMNS
from benchmark.records.facts import Code
from benchmark.records.store import FORMAT, Record, Store, Unreadable, curves_csv, read_record


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Run]]:
    """A folder where a small suite was run, and its runs by row."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("BENCHMARK_OFFLINE", "1")
        patch.delenv("BENCHMARK_DATA", raising=False)
        rows: dict[str, dict[str, Any]] = {
            "Teacher": {"subject": "teacher"},
            "Student": {"method": "none"},
            "DiffKD": {"method": "diffkd"},
            "Sum": {"method": {"diffkd": {"logits_distance": "dist"}, "reviewkd": {}, "vid": {}}},
        }
        suite = write_suite(folder / "records.yaml", rows)
        assert run_suite(suite) == 0
        return folder, runs_of(suite)


def test_a_record_says_what_was_asked_for_and_what_was_done(finished: tuple[Path, dict[str, Run]]) -> None:
    folder, runs = finished
    record = record_of(runs["DiffKD"], folder)
    assert record.asked.plain() == {"device": "cpu", "threads": 1, "compile": "auto", "pack": 1, "precision": "fp32"}
    assert record.effective.plain() == {
        "device": "cpu",
        "threads": 1,
        "precision": "fp32",
        "deterministic": True,
        "step": "eager",
        "cuda_graphs": False,
        "batch": 16,
        "per_device_batch": 16,
        "processes": 1,
        "shards_a_step": 1,
    }
    assert record.experiment.method["diffkd"]["nfe"] == 5
    assert record.experiment.recipe is not None and record.experiment.teacher is not None
    assert record.experiment.recipe.more["momentum"] == 0.9
    assert record.experiment.teacher.experiment == runs["Teacher"].experiment.identity


def test_a_record_has_last_and_best_metrics(finished: tuple[Path, dict[str, Run]]) -> None:
    folder, runs = finished
    record = record_of(runs["DiffKD"], folder)
    assert set(record.last) == set(record.best) == {"top1", "top5", "loss"}
    with store_in(folder).paths(runs["DiffKD"]).curves.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[-1]["test.top1"]) == pytest.approx(record.last["top1"])
    best = max(rows, key=lambda row: float(row["test.top1"]))
    assert float(best["test.top1"]) == pytest.approx(record.best["top1"])
    assert record.best_epoch == int(best["epoch"])
    assert {"train.task", "train.total", "train.diffkd.gamma"} & set(rows[0])


def test_a_record_tracks_every_term_of_the_loss(finished: tuple[Path, dict[str, Run]]) -> None:
    folder, runs = finished
    tracked = record_of(runs["DiffKD"], folder).tracked
    parts = [value for name, value in tracked.items() if name != "total" and "gamma" not in name]
    assert {"task", "total"} < set(tracked)
    assert any("gamma" in name for name in tracked)
    assert sum(parts) == pytest.approx(tracked["total"], rel=1e-4)


def test_a_record_tells_under_which_circumstances(finished: tuple[Path, dict[str, Run]]) -> None:
    folder, runs = finished
    record = record_of(runs["Student"], folder)
    assert record.seconds > 0
    assert record.images_per_second is not None
    assert record.images_per_second > 0
    assert record.peak_memory_mb is not None
    assert record.peak_memory_mb > 50
    assert record.interruptions == 0
    assert set(record.packages) >= {"python", "torch", "torchvision", "timm", "numpy", "torch build"}
    assert record.hardware.cpu and record.hardware.cores and record.hardware.instructions
    assert record.code.commit and record.code.dirty is not None and record.code.source_sha256
    assert record.finished.endswith("+00:00")


def test_a_record_tells_which_images_and_which_teacher(finished: tuple[Path, dict[str, Run]]) -> None:
    folder, runs = finished
    record, teacher = record_of(runs["DiffKD"], folder), record_of(runs["Teacher"], folder)
    assert record.data.name == "generated"
    assert (record.data.subset_train, record.data.subset_test) == (32, 50)
    assert len(str(record.data.more["sha256"])) == 64
    assert record.teacher is not None
    assert record.teacher.weights_sha256 == teacher.weights_sha256
    # The gate is measured on the folded teacher, whose last bits differ: one of the 50 images at most.
    assert record.teacher.metrics["top1"] == pytest.approx(teacher.last["top1"], abs=2.01)
    assert record_of(runs["Student"], folder).teacher is None


def test_a_record_on_cifar_100_has_the_md5_sums_of_its_files(workplace: Path, cifar100_dir: Path) -> None:
    suite = write_suite(workplace / "official.yaml", {"Student": {"method": "none"}}, profile={"epochs": 1})
    assert run_suite(suite, "--data-dir", str(cifar100_dir)) == 0
    (run,) = make_plan([load(suite)], Selection()).runs
    data = record_of(run, workplace).data
    assert data.name == "cifar100"
    assert {name: data.more[name] for name in FILES} == FILES
    assert (data.subset_train, data.subset_test, data.more["seed"]) == (32, 50, 0)


@pytest.mark.parametrize("row", ["Teacher", "Student", "DiffKD", "Sum"])
def test_a_record_is_small(row: str, finished: tuple[Path, dict[str, Run]]) -> None:
    folder, runs = finished
    assert store_in(folder).paths(runs[row]).record.stat().st_size <= 12 * 1024


def test_a_record_read_again_is_the_same(finished: tuple[Path, dict[str, Run]]) -> None:
    folder, runs = finished
    record = record_of(runs["Sum"], folder)
    assert Record.model_validate(raw_record(runs["Sum"], folder)) == record
    assert record.label.partition("/")[2] == runs["Sum"].label.partition("/")[2]


def test_the_outcome_leaves_the_circumstances_out() -> None:
    one = Record(identity="a", repetition=0, status="done", experiment={}, seconds=1.0, interruptions=3)
    other = one.model_copy(update={"seconds": 2.0, "interruptions": 0, "hardware": {"cpu": "x"}})
    assert one.outcome() == other.outcome()
    assert one.outcome() != one.model_copy(update={"last": {"top1": 1.0}}).outcome()
    assert one.outcome() != one.model_copy(update={"weights_sha256": "b"}).outcome()


def test_a_frame_has_one_row_for_each_record(finished: tuple[Path, dict[str, Run]]) -> None:
    folder, runs = finished
    table = frame(folder / "results", folder / "runs" / "records")
    assert len(table) == 4
    run, record = runs["DiffKD"], record_of(runs["DiffKD"], folder)
    line = table.loc[run.key]
    assert (line["identity"], line["repetition"], line["status"]) == (run.experiment.identity, 0, "done")
    assert (line["method"], line["student"], line["teacher"]) == ("diffkd", "resnet8", "resnet14")
    assert json.loads(line["options"]) == record.experiment.method
    assert line["last.top1"] == record.last["top1"]
    assert line["tracked.total"] == record.tracked["total"]
    assert (line["seconds"], line["best_epoch"]) == (record.seconds, record.best_epoch)
    assert (line["device"], line["precision"], line["hardware"]) == ("cpu", "fp32", record.hardware.cpu)
    assert Path(line["path"]).with_suffix(".csv") == Path(line["curves"])


def test_every_column_of_a_frame_is_documented_and_of_one_type(finished: tuple[Path, dict[str, Run]]) -> None:
    folder, _ = finished
    table = frame(folder / "runs")
    metrics = [name for name in table if name.startswith(("last.", "best.", "tracked."))]
    assert [table.index.name, *(name for name in table if name not in metrics)] == list(COLUMNS)
    assert all(table[name].dtype == float for name in (*metrics, "seconds", "images_per_second", "peak_memory_mb"))
    assert all(table[name].dtype == "int" for name in ("repetition", "interruptions", "copies"))
    assert table["best_epoch"].dtype == "Int64"
    assert table["teacher"].isna().tolist() == [name == "none" for name in table["method"]]


def test_a_frame_shows_which_of_several_records_counts(tmp_path: Path) -> None:
    def write(machine: str, top1: float, finished: str) -> None:
        folder = tmp_path / machine / "kd-0123456789abcdef"
        folder.mkdir(parents=True)
        record = WHOLE.model_copy(update={"last": {"top1": top1}, "finished": finished, "code": Code(dirty=False)})
        (folder / "r0.json").write_text(record.model_dump_json(exclude_defaults=True))

    write("one", 70.5, "2026-01-02")
    write("copy", 70.5, "2026-01-03")
    write("earlier", 71.5, "2026-01-01")
    write("diverged", 1.5, "2026-01-04")
    table = frame(tmp_path)
    assert table["last.top1"].tolist() == [71.5, 70.5, 70.5, 1.5]
    assert [bool(why) for why in table["set_aside"]] == [False, True, True, True]
    once = frame(tmp_path / "one", tmp_path / "copy")
    assert once[["copies", "set_aside"]].to_numpy().tolist() == [[1, ""]]


def test_without_records_a_frame_is_empty_and_has_its_columns(tmp_path: Path) -> None:
    (tmp_path / "r0.json").write_text("{")
    table = frame(tmp_path, tmp_path / "absent")
    assert table.empty
    assert ["id", *table] == list(COLUMNS)


def test_smoke_records_stay_out_of_the_results(finished: tuple[Path, dict[str, Run]]) -> None:
    folder, runs = finished
    assert not list((folder / "results").rglob("*"))
    paper = Run(replace(runs["Student"].experiment, profile="paper"), 0)
    assert store_in(folder).paths(paper).record.is_relative_to(folder / "results" / "paper")


WHOLE = Record(identity="ab", repetition=0, status="done", experiment={}, last={"top1": 70.5})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[: len(text) // 2], "cut off or edited"),
        (lambda text: "", "cut off or edited"),
        (lambda text: text.replace('"status": "done"', '"status": "perfect"'), "status: input should be"),
        (lambda text: text.replace("70.5", '"high"'), "last.top1"),
        (lambda text: text.replace("70.5", "NaN"), "not a finite number"),
        (
            lambda text: text.replace('"identity"', f'"schema_version": {FORMAT + 1}, "identity"'),
            "newer than this program's",
        ),
    ],
)
def test_a_record_that_cannot_be_used_says_why(change: Any, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "r0.json"
    text = json.dumps(json.loads(WHOLE.model_dump_json(exclude_defaults=True)))
    assert isinstance(read_record(path), type(None))
    path.write_text(text)
    assert read_record(path) == WHOLE
    path.write_text(change(text))
    found = read_record(path)
    assert isinstance(found, Unreadable)
    assert reason.lower() in found.reason.lower()


def test_a_record_of_an_earlier_program_lacks_nothing_that_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "r0.json"
    path.write_text('{"identity": "ab", "repetition": 0, "status": "done", "experiment": {}, "once_known": 1}')
    assert isinstance(read_record(path), Record)


def test_another_experiments_record_under_this_name_is_not_taken(finished: tuple[Path, dict[str, Run]]) -> None:
    folder, runs = finished
    run, store = runs["Student"], store_in(folder)
    path = store.paths(run).record
    text = path.read_text()
    try:
        path.write_text(text.replace(run.experiment.identity, "0" * 16))
        assert store.read(run) is None
    finally:
        path.write_text(text)


def test_status_tells_an_unreadable_record(
    finished: tuple[Path, dict[str, Run]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, runs = finished
    monkeypatch.chdir(folder)
    path = store_in(folder).paths(runs["Student"]).record
    text = path.read_text()
    try:
        path.write_text(text[:100])
        assert main(["status", "records.yaml", "--json"]) == 0
        states = {row["run"]: row for row in json.loads(capsys.readouterr().out)[1:]}
        assert states[runs["Student"].label]["state"] == "unreadable"
        assert str(path) in states[runs["Student"].label]["why"]
    finally:
        path.write_text(text)


def test_curves_have_a_column_for_every_quantity() -> None:
    text = curves_csv([{"epoch": 1, "a": 0.5}, {"epoch": 2, "b": 1 / 3}])
    assert text == "epoch,a,b\n1,0.5,\n2,,0.333333\n"


def test_folders_are_tried_before_anything_is_trained(tmp_path: Path) -> None:
    store = Store(tmp_path / "results", tmp_path / "runs")
    store.prepare()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "runs"]
    assert not list(tmp_path.rglob("*probe*"))
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        Store(tmp_path / "file" / "results", tmp_path / "runs").prepare()
