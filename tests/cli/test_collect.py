"""`collect`: records of others are checked file by file, attributed, and never mixed up with one's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from small import ROOT, run_suite, runs_of, store_in, write_suite

from benchmark.cli.parser import main
from benchmark.records import frame

MINI = ROOT / "results" / "mini"
KD = sorted(MINI.rglob("kd-*/r*.json"))


@pytest.fixture
def theirs(workplace: Path) -> Path:
    """A lab's folder: five records of KD, and the teacher with its weights."""
    for path in (*KD, *MINI.rglob("none-bf68241a043d315b/r0.json")):
        target = workplace / "theirs" / path.relative_to(ROOT / "results")
        target.parent.mkdir(parents=True, exist_ok=True)
        for suffix in (".json", ".csv", ".pt"):
            if path.with_suffix(suffix).is_file():
                shutil.copy(path.with_suffix(suffix), target.with_suffix(suffix))
    return workplace / "theirs"


def edited(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_records_are_taken_byte_for_byte_and_the_report_says_whose_they_are(
    theirs: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["collect", "theirs", "--from", "some-lab"]) == 0
    assert "6 records taken into results/from/some-lab, 0 were here already" in capsys.readouterr().out
    table = frame("results")
    assert len(table) == 6 and set(table["contributor"]) == {"some-lab"}
    (kd,) = (workplace / "results").rglob("kd-*/r3.json")
    assert kd.read_bytes() == KD[3].read_bytes() and kd.with_suffix(".csv").is_file()
    assert main(["report", "--suite", "mini-cifar100"]) == 0
    assert "6 records from results" in capsys.readouterr().out
    assert ", from some-lab</td>" in (workplace / "reports" / "paper" / "index.html").read_text()
    assert main(["collect", "theirs", "--from", "some-lab"]) == 0
    assert "0 records taken into results/from/some-lab, 6 were here already" in capsys.readouterr().out


def test_what_is_wrong_is_refused_and_named_and_the_rest_is_taken(
    theirs: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third, *_ = sorted(theirs.rglob("kd-*/r*.json"))
    first.write_text(first.read_text()[:200])
    settings = json.loads(second.read_text())["experiment"]
    settings["recipe"]["lr"] = 1.0
    edited(second, experiment=settings)
    edited(third, schema_version=99)
    (weights,) = theirs.rglob("r0.pt")
    weights.write_bytes(b"nothing")
    assert main(["collect", "theirs", "--from", "some-lab"]) == 5
    printed = capsys.readouterr()
    assert f"REFUSED theirs/{first.relative_to(theirs)}: " in printed.err and "cut off or edited?" in printed.err
    assert "its settings give the identity" in printed.err
    assert "its format 99 is newer than this program's" in printed.err
    assert "the weights beside it cannot be read" in printed.err
    assert "2 records taken" in printed.out


def test_an_outcome_that_disagrees_is_listed_and_what_is_here_stays(
    theirs: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = workplace / "results" / KD[0].relative_to(ROOT / "results")
    own.parent.mkdir(parents=True)
    shutil.copy(KD[0], own)
    edited(next(theirs.rglob("kd-*/r0.json")), last={"top1": 99.0, "top5": 99.0, "loss": 0.1})
    assert main(["collect", "theirs", "--from", "some-lab"]) == 5
    printed = capsys.readouterr()
    assert "CONFLICT" in printed.err and str(own) in printed.err
    assert own.read_bytes() == KD[0].read_bytes()
    counted = frame("results")
    assert counted.loc[counted["set_aside"] == ""].shape[0] == 6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "--from", "some-lab"], "there is no such folder"),
        (["empty", "--from", "some-lab"], "no records are below empty"),
        (["empty", "--from", "../up"], "cannot name a folder"),
    ],
)
def test_bad_input_is_refused(
    arguments: list[str], said: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "empty").mkdir()
    assert main(["collect", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_spot_check_runs_one_of_them_again_first(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = write_suite(workplace / "small.yaml", {"KD": {"method": "kd"}}, profile={"epochs": 1})
    assert run_suite(suite) == 0
    theirs = store_in(workplace).paths(runs_of(suite)["KD"]).record
    assert main(["collect", str(theirs.parent), "--from", "lab", "--spot-check", "1", "--results-dir", "one"]) == 0
    assert "equal bit for bit" in capsys.readouterr().out
    edited(theirs, last={"top1": 99.0, "top5": 99.0, "loss": 0.1})
    assert main(["collect", str(theirs.parent), "--from", "lab", "--spot-check", "1", "--results-dir", "two"]) == 5
    assert "nothing was taken: a spot check failed" in capsys.readouterr().err
    assert not (workplace / "two").exists()
