"""`report`: its files, its output and its exit codes."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from written_records import RERUN, SETTING, TABLE, TIGHT, WIDE, Bench, around, experiment, find, record_of, write

from benchmark.cli.parser import main
from benchmark.cli.report import write as write_report
from benchmark.judge.verdicts import Verdict
from benchmark.judge.views import Comparison
from benchmark.machine.shipped import RESULTS
from benchmark.paper import manifest
from benchmark.plan.experiment import Run
from benchmark.report import latex, markdown
from benchmark.report.cells_csv import cells_csv

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Write records in which KD is reproduced, DiffKD is far below, and student and MSE are not run."""
    bench = Bench(tmp_path)
    suite = bench.table()
    write(bench.store, experiment(suite, "KD"), around(70.66, TIGHT))
    write(bench.store, experiment(suite, "DiffKD"), around(69.92, TIGHT))
    return bench


def report(bench: Bench, *more: str) -> int:
    places = ("--results-dir", str(bench.store.results), "--runs-dir", str(bench.store.runs))
    return main(["report", *places, "--out", str(bench.root / "out"), *more])


@pytest.fixture
def small(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Make the small table the only suite."""
    from benchmark.cli import report as command

    narrowed = command.Sources
    monkeypatch.setattr(
        command, "Sources", lambda **given: replace(narrowed(**given), suites=bench.suites, claims=bench.claims)
    )
    monkeypatch.chdir(bench.root)
    return bench


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_form_is_written(small: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(small) == 0
    wanted = {"index.html", "comparison.json", "cells.csv", "report.md", "tables/small.md", "tables/small.tex"}
    assert set(files(small.root / "out")) == wanted
    printed = capsys.readouterr().out
    assert "10 records" in printed
    assert re.search(r"reproduced +1\n", printed) and re.search(r"below +1\n", printed)
    assert "5 encoded" in printed and "out/index.html" in printed


def test_the_default_place_follows_the_mode(small: Bench) -> None:
    assert main(["report", "--compare", "all"]) == 0
    assert (small.root / "reports" / "all" / "index.html").is_file()


@pytest.mark.parametrize(
    ("gate", "code"),
    [("below", 5), ("protocol-mismatch", 0), ("protocol mismatch, Below", 5), ("", 0), ("not-run", 5)],
)
def test_the_gate(small: Bench, capsys: pytest.CaptureFixture[str], gate: str, code: int) -> None:
    assert report(small, "--fail-on", gate) == code
    assert ("GATE below: small/DiffKD/Top-1" in capsys.readouterr().err) is ("elow" in gate)
    assert (small.root / "out" / "index.html").is_file()


def test_an_unknown_verdict_stops_before_anything_is_written(small: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(small, "--fail-on", "bellow") == 2
    assert "below" in capsys.readouterr().err
    assert not (small.root / "out").exists()


def test_an_unknown_suite(small: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(small, "--suite", "smal") == 2
    assert "no suite 'smal'" in capsys.readouterr().err


def test_a_suite_of_ones_own_is_named_by_its_file(small: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    own = small.root / "own.yaml"
    own.write_text(yaml.safe_dump(TABLE | {"suite": "own", "table": "own", "rows": TABLE["rows"][:3]}))
    assert report(small, "--suite", str(own)) == 0
    assert set(files(small.root / "out")) >= {"tables/own.md"}
    assert "3 encoded" in (printed := capsys.readouterr().out) and "reproduced" in printed
    assert report(small, "--suite", str(small.suites / "small.yaml")) == 0
    assert "5 encoded" in capsys.readouterr().out


def test_a_broken_manifest_is_said_and_the_rest_written(small: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    broken = TABLE | {"suite": "broken", "setting": SETTING | {"student": "resnet2O"}}
    (small.suites / "broken.yaml").write_text(yaml.safe_dump(broken))
    assert report(small) == 2
    assert "PROBLEM manifest" in (errors := capsys.readouterr().err) and "resnet20" in errors
    assert "KD" in (small.root / "out" / "tables" / "small.md").read_text()


@pytest.mark.parametrize("places", [("nowhere",), ("results", "nowhere")])
def test_a_folder_of_records_that_does_not_exist_is_refused_and_the_last_report_stays(
    small: Bench, places: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(small) == 0
    before = files(small.root / "out")
    capsys.readouterr()
    asked = [word for place in places for word in ("--results-dir", place)]
    assert main(["report", *asked, "--out", "out"]) == 2
    printed = capsys.readouterr()
    assert "error: --results-dir nowhere: there is no such folder\n  fix: --results-dir DIR" in printed.err
    assert printed.out == ""
    assert files(small.root / "out") == before


def test_where_nothing_was_run_the_records_that_come_with_the_program_are_compared(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "--suite", "mini-cifar100"]) == 0
    assert f"60 records from {RESULTS}" in capsys.readouterr().out
    own = next((RESULTS / "mini").rglob("r0.json"))
    (workplace / "results" / "mini").mkdir(parents=True)
    shutil.copy(own, workplace / "results" / "mini")
    assert main(["report", "--suite", "mini-cifar100"]) == 0
    assert "1 records from results, 1 of an older format." in capsys.readouterr().out


@pytest.mark.parametrize("folder", ["results", "nothing here"])
def test_costs_are_known_wherever_the_records_lie(
    folder: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / folder).mkdir()
    assert main(["report", "--suite", "table6", "--results-dir", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["equal"] == 44  # all of Table 6


@pytest.mark.parametrize(
    "command",
    [["status", "smoke"], ["show", "run", "abc"], ["export", "abc"]],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize("flag", ["--results-dir", "--runs-dir"])
def test_other_readers_of_records_refuse_such_a_folder_too(
    command: list[str], flag: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, flag, "nowhere"]) == 2
    assert f"{flag} nowhere: there is no such folder" in capsys.readouterr().err


def test_before_the_first_run_status_says_what_is_missing(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "smoke"]) == 0
    assert "missing" in capsys.readouterr().out


def test_an_empty_results_folder(small: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    (small.root / "empty").mkdir()
    assert main(["report", "--results-dir", "empty", "--out", "out"]) == 0
    assert "no record that can be read" in capsys.readouterr().err


def test_many_problems_are_cut_short(small: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    for path in small.store.results.rglob("r*.json"):
        path.write_text("{")
    suite = manifest.load(small.suites / "small.yaml")
    for paths in write(small.store, experiment(suite, "MSE"), [70.0] * 9) * 2:
        paths.record.write_text("{")
    assert report(small) == 0
    problems = [line for line in capsys.readouterr().err.splitlines() if line.startswith("PROBLEM")]
    assert len(problems) == 20


def test_json_on_standard_output(small: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(small, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mode"] == "paper" and found["counts"]["below"] == 1
    written = json.loads((small.root / "out" / "comparison.json").read_text())
    assert written == found


def test_the_same_inputs_give_the_same_files(small: Bench) -> None:
    report(small)
    first = files(small.root / "out")
    report(small)
    assert files(small.root / "out") == first


def test_several_machines(small: Bench) -> None:
    suite = manifest.load(small.suites / "small.yaml")
    there = replace(small.store, results=small.root / "there")
    write(there, experiment(suite, "MSE"), around(71.0, TIGHT))
    assert report(small, "--results-dir", str(there.results)) == 0
    found = json.loads((small.root / "out" / "comparison.json").read_text())
    assert found["counts"]["reproduced"] == 2
    assert len(found["inputs"]["folders"]) == 2


def test_smoke_records_count_as_coverage(small: Bench) -> None:
    suite = manifest.load(small.suites / "small.yaml")
    write(small.store, experiment(suite, "MSE", "smoke"), [5.0])
    report(small)
    found = json.loads((small.root / "out" / "comparison.json").read_text())
    assert found["coverage"]["smoke_run"] == 1 and found["counts"]["not comparable"] == 1


# The forms


def grown(bench: Bench) -> Comparison:
    """Return the comparison of a suite with groups, columns of two kinds, a static column and odd characters."""
    rows = [
        {"row": "T: R&B_56", "group": "100% {one}", "subject": "teacher", "cells": "72.34 0.85"},
        {"row": "KD†", "group": "100% {one}", "method": "kd", "cells": "70.66±0.24 -"},
        {"row": "DiffKD", "group": "two | bars", "method": "diffkd", "cells": "71.92 0.28"},
    ]
    columns = [{"column": "A -> B", "metric": "top1"}, {"column": "Params (M)", "metric": "params_m"}]
    suite = bench.table("grown", rows=rows, columns=columns)
    write(bench.store, experiment(suite, "DiffKD"), around(71.92, WIDE))
    return bench.compare(only=["grown"])


def test_latex_has_every_row_twice_in_even_columns(bench: Bench) -> None:
    (table,) = grown(bench).tables
    text = latex.table(table)
    for environment in ("table", "tabular"):
        assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}") == 1
    body = text.partition(r"\begin{tabular}{llcc}")[2].partition(r"\end{tabular}")[0]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert [len(re.findall(r"(?<!\\)&", line)) for line in lines if "multicolumn" not in line] == [3] * 6
    assert sum("multicolumn{4}" in line for line in lines) == 2
    assert re.findall(r"\\(\w+rule)", body) == ["toprule", "midrule", "bottomrule"]


def test_latex_is_balanced_and_escaped(bench: Bench) -> None:
    text = latex.table(grown(bench).tables[0])
    bare = re.sub(r"\\[{}&%$#_\\]", "", text)
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    assert not set("#%^~") & set(bare)
    assert "_" not in re.sub(r"\\label\{[^}]*\}", "", bare)
    assert r"R\&B\_56" in text and r"100\% \{one\}" in text and r"KD$\dagger$" in text and r"A $\rightarrow$ B" in text
    assert text.isascii()


def test_latex_prints_the_best_of_a_contest_in_bold_with_its_spread(bench: Bench) -> None:
    text = latex.table(bench.compare().tables[0])
    assert r"\textbf{71.92}\,{\scriptsize$\pm$\,0.14}" in text  # published: DiffKD
    assert r"\textbf{70.66}\,{\scriptsize$\pm$\,0.05}\textsuperscript{R}" in text  # ours: KD
    assert r"\textbf{72.34}" not in text  # a teacher is no contender
    assert "R: reproduced" in text and "B: below" in text and "I: inconclusive" not in text


def test_markdown_has_the_table_beside_ours_and_the_reasons(bench: Bench) -> None:
    text = markdown.section(bench.compare().tables[0])
    assert text.startswith("## Table 9: A small table")
    assert "| KD (cited) | 70.66±0.24<br>70.66±0.05 (5), +0.00 [-0.05, +0.05]<br>*reproduced* |" in text
    assert "| Student (cited) | 69.06<br>*not run* |" in text
    assert "**DiffKD, Top-1**: *below*: the gap of -2.00 is outside" in text
    assert "the smallest gap seen would be" in text
    assert "DiffKD above KD, Top-1" in text and "3 more" not in text and "more have no runs" in text


def test_markdown_keeps_its_columns_whatever_the_names_hold(bench: Bench) -> None:
    text = markdown.report(grown(bench))
    section = text.partition("## grown")[2].partition("\n\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|") and "Params" not in line]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows[:4]} == {4}
    assert "two \\| bars: DiffKD" in text


def test_the_report_says_what_is_wrong_with_the_inputs(bench: Bench) -> None:
    next(bench.store.results.rglob("r1.json")).write_text("{")
    text = markdown.report(bench.compare())
    assert "## Problems with the inputs" in text and "unreadable record" in text
    assert "9 records from" in text and "1 unreadable" in text


@pytest.mark.parametrize("part", ["## Claims", "## Provenance", "## Rules", "Coverage, in cells", "margin"])
def test_the_report_has_all_parts(bench: Bench, part: str) -> None:
    assert part in markdown.report(bench.compare())


def test_csv_has_a_line_for_each_reference(bench: Bench) -> None:
    bench.readings(RERUN)
    lines = list(csv.DictReader(cells_csv(bench.compare("all")).splitlines()))
    assert len(lines) == 6
    paper, other = (line for line in lines if line["row"] == "KD")
    assert (paper["reference"], other["reference"]) == ("paper", "rerun")
    assert other["reference_source"] == "A text" and other["verdict"] == "below"
    assert float(paper["published"]) == 70.66 and float(paper["achieved"]) == pytest.approx(70.66)
    assert (paper["n"], paper["values"].split()[0]) == ("5", "70.6")
    student = next(line for line in lines if line["row"] == "Student")
    assert (student["achieved"], student["gap"], student["verdict"]) == ("", "", "not run")


def test_every_kind_of_evidence_has_its_column(bench: Bench) -> None:
    bench.readings(RERUN | {"sources": [{"text": "text", "kind": "primary", "cells": "70.96"}]})
    lines = {line["row"]: line for line in csv.DictReader(cells_csv(bench.compare()).splitlines())}
    kd = lines["KD"]
    assert (kd["evidence"], kd["runs"], kd["runs_by"]) == ("runs", "reproduced", "ours 5")
    assert (kd["source"], kd["source_readings"]) == ("miscopied", "70.96 (A text): primary")
    assert kd["source_reason"] == "70.66±0.24 here, but 70.96 in A text"
    assert (kd["reruns_by_others"], kd["reruns_values"]) == ("shown", "72.5 (A text): shown")
    assert (lines["Student"]["evidence"], lines["Student"]["source"], lines["Student"]["runs"]) == ("nothing", "", "")


def test_sources_and_reruns_are_in_the_text_of_a_table(bench: Bench) -> None:
    bench.readings(RERUN | {"sources": [{"text": "text", "kind": "primary", "cells": "70.96"}]})
    text = markdown.report(bench.compare())
    assert "| KD | Top-1 | 70.66±0.24 | miscopied | 70.66±0.24 here, but 70.96 in A text |" in text
    assert "| KD | Top-1 | 70.66±0.24 | 72.5 | +1.84 | ? | shown | A text | the same |" in text
    assert "| runs | reproduced | 0 | 1 |" in text


def test_three_sentences_answer_on_the_terminal(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    report(bench)
    said = capsys.readouterr().out
    own, copied, every = json.loads((bench.root / "out" / "comparison.json").read_text())["evidence"]["sentences"]
    assert f"\n{own}\n{copied}\n{every}\n" in said and own.startswith("Of ")


def test_csv_has_cells_without_a_reference_too(bench: Bench) -> None:
    lines = list(csv.DictReader(cells_csv(bench.compare("reruns")).splitlines()))
    assert lines == []
    bench.table(rows=[{"row": "KD", "method": "kd"}])
    (line,) = csv.DictReader(cells_csv(bench.compare()).splitlines())
    assert line["verdict"] == "" and float(line["achieved"]) == pytest.approx(70.66)


# Speed and weight


def test_torch_is_not_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from benchmark.cli.parser import main; "
        f"main(['report', '--suite', 'table9', '--results-dir', {str(tmp_path)!r}, '--out', {str(tmp_path)!r}]); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


def many(bench: Bench, count: int) -> float:
    """Return the seconds of a report on this number of records of the small table, curves included."""
    suite = bench.table(repetitions=count // 4)
    curves = "epoch,test.top1,train.loss\n" + "".join(f"{epoch},70.5,{1 / epoch:.5f}\n" for epoch in range(1, 241))
    for row in ("Student", "KD", "MSE", "DiffKD"):
        made, value = experiment(suite, row), find(suite, row).value
        assert value is not None
        for repetition in range(count // 4):
            record = record_of(made, repetition, value + TIGHT[repetition % 5], finished="2026-01-01")
            paths = bench.store.paths(Run(made, repetition))
            paths.record.parent.mkdir(parents=True, exist_ok=True)
            paths.record.write_text(record.model_dump_json(exclude_defaults=True))
            paths.curves.write_text(curves)
    began = time.perf_counter()
    comparison = bench.compare()
    write_report(comparison, bench.root / "out")
    took = time.perf_counter() - began
    assert comparison.inputs.records == count
    assert comparison.counts[Verdict.REPRODUCED] == 4
    return took


def test_a_few_hundred_records_are_quick(tmp_path: Path) -> None:
    many(Bench(tmp_path), 12)  # imports and templates
    assert many(Bench(tmp_path), 200) < 5


@pytest.mark.slow
def test_three_thousand_records_take_less_than_five_seconds(tmp_path: Path) -> None:
    many(Bench(tmp_path), 12)
    assert many(Bench(tmp_path), 3000) < 5
