"""`rerun`: a record's run made again from the record alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from small import ROOT, run_suite, runs_of, store_in, write_suite

from benchmark.cli.parser import main


@pytest.fixture
def record(workplace: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The record of DiffKD with a teacher that was trained for it. Its suite and its runs are gone."""
    suite = write_suite(workplace / "gone.yaml", {"DiffKD": {"method": "diffkd"}}, profile={"epochs": 1})
    assert run_suite(suite) == 0
    path = store_in(workplace).paths(runs_of(suite)["DiffKD"]).record
    kept = workplace / "kept" / "r0.json"
    kept.parent.mkdir()
    kept.write_text(path.read_text())
    suite.unlink()
    for name in ("runs", "results"):
        (workplace / name).rename(workplace / f"former-{name}")
    capsys.readouterr()
    return kept


def test_a_record_comes_out_again_bit_for_bit_from_itself_alone(
    record: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = record.read_bytes()
    assert main(["rerun", str(record)]) == 0
    assert "equal bit for bit" in capsys.readouterr().out
    assert record.read_bytes() == before
    assert not (workplace / "runs").exists() and not (workplace / "results").exists()


def test_what_differs_is_told_with_its_size_and_what_may_explain_it(
    record: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(record.read_text())
    content["last"]["loss"] += 0.25
    content["weights_sha256"] = "0" * 64
    content["code"]["source_sha256"] = "another"
    content["packages"]["torch"] = "1.0"
    record.write_text(json.dumps(content))
    assert main(["rerun", str(record), "--json"]) == 5
    (found,) = json.loads(capsys.readouterr().out)
    assert not found["equal"] and set(found["differs"]) == {"last loss", "weights_sha256"}
    assert found["differs"]["last loss"].endswith("(-0.25)")
    assert set(found["circumstances"]) == {"source", "torch"}
    assert found["circumstances"]["torch"].startswith("version of torch: 1.0 then, ")


def test_a_sample_is_taken_and_its_share_is_printed(
    record: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        (record.parent / f"r{number}.json").write_text(record.read_text())
    assert main(["rerun", str(record.parent)]) == 2
    assert "3 records lie below the folders that are named" in capsys.readouterr().err
    assert main(["rerun", str(record.parent), "--sample", "2", "--to", "again"]) == 0
    assert "2 of 2 reruns are equal bit for bit" in capsys.readouterr().err
    assert list((workplace / "again" / "runs" / "records").rglob("r0.json"))


def test_a_sample_lists_what_cannot_be_rerun_and_counts_the_others(
    record: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(record.read_text())
    kept = record.parent
    (kept / "r1.json").write_text("{")
    edited = content["experiment"] | {"method": {"kd": {"warmth": 4}}}
    (kept / "r2.json").write_text(json.dumps(content | {"experiment": edited}))
    needs_images = next((ROOT / "results" / "mini").rglob("kd-*/r0.json"))
    (kept / "r3.json").write_bytes(needs_images.read_bytes())
    assert main(["rerun", str(kept), "--sample", "4", "--to", "again"]) == 0
    shown = capsys.readouterr()
    assert "1 of 1 reruns are equal bit for bit; 3 could not be rerun" in shown.err
    assert shown.out.count("equal bit for bit") == 1
    for number, why in ((1, "cut off or edited?"), (2, "warmth"), (3, "CIFAR-100 is not in")):
        (line,) = [line for line in shown.out.splitlines() if line.startswith(f"{kept / f'r{number}.json'}: could not")]
        assert why in line

    content["weights_sha256"] = "0" * 64
    record.write_text(json.dumps(content))
    record.with_suffix(".pt").write_bytes(b"no weights")
    assert main(["rerun", str(kept), "--sample", "4", "--to", "again", "--json"]) == 5
    shown = capsys.readouterr()
    assert "0 of 1 reruns are equal bit for bit; 3 could not be rerun" in shown.err
    found = json.loads(shown.out)
    assert sum("reason" in one for one in found) == 3
    assert "cannot be compared" in found[0]["differs"]["weights_sha256"]

    record.unlink()
    assert main(["rerun", str(kept), "--sample", "4"]) == 5
    assert "0 of 0 reruns are equal bit for bit; 3 could not be rerun" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"), [("nothing.json", "there is no such file"), ("broken.json", "cut off or edited?")]
)
def test_what_is_no_record_is_refused(
    name: str, said: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "broken.json").write_text("{")
    assert main(["rerun", name]) == 2
    assert said in capsys.readouterr().err


def test_a_record_of_format_1_whose_teacher_is_nowhere_says_what_is_missing(
    record: Path, workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads(record.read_text())
    del content["schema_version"], content["experiment"]["teacher"]["described"]
    record.write_text(json.dumps(content))
    shutil.rmtree(workplace / "former-runs")  # with the record of its teacher
    monkeypatch.chdir(record.parent)
    assert main(["rerun", "r0.json"]) == 2
    assert "does not describe the training of its teacher" in capsys.readouterr().err
