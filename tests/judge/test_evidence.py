"""Kinds of evidence beside our runs: sources of cited numbers, re-runs by others, and what all of it comes to."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from written_records import TIGHT, USUAL, Bench, around, experiment, problems, record_of, write

from benchmark.judge.answer import evidence_summary
from benchmark.judge.compare import Sources, compare
from benchmark.judge.rule_chain import judge
from benchmark.judge.samples import Published, Sample
from benchmark.judge.sources import SourceWord
from benchmark.judge.verdicts import Verdict
from benchmark.judge.views import CellEvidence, Comparison, EvidenceKind
from benchmark.paper.readings import FOLDER
from benchmark.paper.rules import load_rules
from benchmark.plan.experiment import Run
from benchmark.records.evidence import ProblemKind
from benchmark.records.store import CONTRIBUTED


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.table()
    return bench


def known(bench: Bench, row: str = "KD", mode: Any = "paper") -> CellEvidence:
    return bench.cell(row, mode).evidence


def kd(**more: Any) -> dict[str, Any]:
    return {"row": "KD", "printed": "70.66±0.24", **more}


def read(*numbers: tuple[str, str], **more: str) -> dict[str, Any]:
    """Return the row of KD with readings: kind and number."""
    return kd(sources=[{"text": "text", "kind": kind, "cells": number, **more} for kind, number in numbers])


# Is a cited number what its source prints?


@pytest.mark.parametrize(
    ("numbers", "word"),
    [
        ([("primary", "70.66")], SourceWord.AS_IN_SOURCE),
        ([("primary", "70.66±0.24")], SourceWord.AS_IN_SOURCE),
        ([("primary", "70.6649")], SourceWord.AS_IN_SOURCE),  # rounded
        ([("primary", "70.665")], SourceWord.AS_IN_SOURCE),  # a tie may be rounded either way
        ([("primary", "70.6651")], SourceWord.MISCOPIED),
        ([("primary", "70.7")], SourceWord.MISCOPIED),  # the digit that the table has is not from here
        ([("primary", "70.66±0.42")], SourceWord.MISCOPIED),
        ([("primary", "70.96"), ("secondary", "70.66")], SourceWord.MISCOPIED),
        ([("primary", "70.66"), ("secondary", "70.96")], SourceWord.AS_IN_SOURCE),
        ([("primary", "70.66"), ("primary", "70.96")], SourceWord.DISAGREE),
        ([("primary", "70.96"), ("primary", "70.97")], SourceWord.MISCOPIED),
        ([("secondary", "70.66"), ("secondary", "70.96")], SourceWord.DISAGREE),
        ([("derived", "70.66")], SourceWord.AS_IN_SOURCE),
        ([("computed", "70.96")], SourceWord.MISCOPIED),
        ([("other-variant", "70.66")], SourceWord.NOT_FOUND),
        ([("other-variant", "70.96"), ("secondary", "70.66")], SourceWord.AS_IN_SOURCE),
        ([], SourceWord.NOT_FOUND),
    ],
)
def test_the_word_for_a_cited_number(bench: Bench, numbers: list[tuple[str, str]], word: SourceWord) -> None:
    bench.readings(read(*numbers))
    source = known(bench).source
    assert source is not None and source.word is word
    assert [(one.kind, one.printed) for one in source.readings] == numbers


def test_a_right_number_of_another_protocol_says_which(bench: Bench) -> None:
    bench.readings(read(("primary", "70.66"), setting="a run of half as many epochs"))
    source = known(bench).source
    assert source is not None and source.word is SourceWord.DIFFERENT_SETTING
    assert source.reason == "70.66 in A text, but of a run of half as many epochs"


def test_a_wrong_number_of_another_protocol_is_miscopied(bench: Bench) -> None:
    bench.readings(read(("primary", "70.96"), setting="a run of half as many epochs"))
    source = known(bench).source
    assert source is not None and source.word is SourceWord.MISCOPIED
    assert source.reason == "70.66±0.24 here, but 70.96 in A text"


def test_copies_alone_are_said_to_be_copies(bench: Bench) -> None:
    bench.readings(read(("secondary", "70.66")))
    source = known(bench).source
    assert source is not None and "the source's own text was not read" in source.reason


def test_only_cited_numbers_that_were_looked_for_have_a_word(bench: Bench) -> None:
    assert known(bench).source is None  # nobody looked
    bench.readings({"row": "DiffKD", "printed": "71.92±0.14"})
    assert known(bench, "DiffKD").source is None  # the authors' own


def test_a_cost_has_a_source_too(bench: Bench) -> None:
    rows = [{"row": "Network", "method": "none", "standing": "cited", "cells": "0.28"}]
    bench.table(rows=rows, columns=[{"column": "Params (M)", "metric": "params_m"}])
    bench.readings(
        {"row": "Network", "printed": "0.28", "sources": [{"text": "text", "kind": "computed", "cells": "0.2783"}]}
    )
    for mode in ("paper", "reruns"):
        comparison = compare(Sources((bench.root,), mode, (), bench.suites, bench.claims, bench.bridges))
        found = [cell.evidence for cell in comparison.cells]
        assert [one.source.word for one in found if one.source] == [SourceWord.AS_IN_SOURCE] * (mode == "paper")


def test_readings_with_a_mistake_spoil_nothing_else(bench: Bench) -> None:
    bench.readings(read(("primary", "70.66")) | {"printed": "70.67"})
    write(bench.store, experiment(bench.table(), "KD"), around(70.66, TIGHT))
    comparison = bench.compare()
    (said,) = problems(comparison, ProblemKind.MANIFEST)
    assert re.search(rf"{FOLDER}/small.yaml:\d+: printed '70.67', but small.yaml has '70.66±0.24'", said)
    assert comparison.counts[Verdict.REPRODUCED] == 1


# Re-runs by others


def rerun(cells: str, **more: Any) -> dict[str, Any]:
    return kd(reruns=[{"text": "text", "cells": cells, "protocol": "theirs", **more}])


def test_comparable_single_runs_are_judged_as_runs_are(bench: Bench) -> None:
    bench.readings(rerun("69.60,69.66,69.72", comparable=True))
    (other,) = known(bench).reruns
    published = Published(70.66, 2, "cifar100", "top1", 0.24)
    assert other.judgement == judge(published, Sample((69.60, 69.66, 69.72)), load_rules())
    assert (other.printed, other.runs, other.word) == ("69.66±0.06", 3, "below")
    assert other.gap == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("cells", "more", "word"),
    [
        ("70.60", {"comparable": True, "runs": 1}, "insufficient seeds"),
        ("70.60", {"comparable": True}, "shown"),  # nobody knows of how many runs
        ("70.60", {"comparable": True, "runs": 3}, "shown"),  # a mean has no single runs
        ("70.60±0.1", {"comparable": True, "runs": 1}, "shown"),
        ("70.5,70.6,70.7", {}, "shown"),
    ],
)
def test_other_reruns_are_shown(bench: Bench, cells: str, more: dict[str, Any], word: str) -> None:
    bench.readings(rerun(cells, **more))
    evidence = known(bench)
    assert evidence.word(EvidenceKind.RERUNS) == word
    assert evidence.best is EvidenceKind.UNDECIDED


def test_reruns_by_others_are_never_in_our_mean(bench: Bench) -> None:
    write(bench.store, experiment(bench.table(), "KD"), around(70.66, TIGHT))
    before = bench.cell("KD")
    bench.readings(rerun("60.1,60.2,60.3", comparable=True))
    after = bench.cell("KD")
    assert replace(after, evidence=before.evidence) == before
    assert (after.evidence.runs, after.evidence.reruns[0].word) == (Verdict.REPRODUCED, "below")


def test_a_series_is_one_reference_with_its_runs(bench: Bench) -> None:
    bench.readings(rerun("70.5,70.6,70.7", comparable=True))
    (reference,) = bench.cell("KD", "reruns").references
    assert (reference.printed, reference.value, reference.runs) == ("70.6±0.1", 70.6, 3)


# Runs, with whose they are


def test_runs_say_whose_they_are(bench: Bench) -> None:
    made = experiment(bench.table(), "KD")
    write(bench.store, made, around(70.66, TIGHT)[:2])
    theirs = replace(bench.store, results=bench.store.results / CONTRIBUTED / "alice")
    for repetition in (2, 3, 4):
        theirs.write(Run(made, repetition), record_of(made, repetition, 70.66 + TIGHT[repetition]))
    evidence = known(bench)
    assert (evidence.runs, dict(evidence.whose)) == (Verdict.REPRODUCED, {"ours": 2, "alice": 3})
    assert list(evidence.whose) == ["ours", "alice"]


def test_without_runs_there_is_no_word_for_runs(bench: Bench) -> None:
    assert known(bench).runs is None and known(bench).best is EvidenceKind.NOTHING


# What it comes to


def test_the_strongest_kind_counts(bench: Bench) -> None:
    bench.readings(read(("primary", "70.66")))
    assert known(bench).best is EvidenceKind.SOURCE
    bench.readings(read(("primary", "70.66")) | rerun("70.5,70.6,70.7", comparable=True))
    assert known(bench).best is EvidenceKind.RERUNS
    made = experiment(bench.table(), "KD")
    write(bench.store, made, [70.66])
    assert known(bench).best is EvidenceKind.RERUNS  # one run decides nothing
    write(bench.store, made, around(70.66, USUAL))
    assert known(bench).best is EvidenceKind.RUNS


def test_the_counts_and_their_sentences(bench: Bench) -> None:
    suite = bench.table()
    bench.readings(
        read(("primary", "70.96")),
        {"row": "Teacher", "printed": "72.34", "sources": [{"text": "text", "kind": "primary", "cells": "72.34"}]},
    )
    write(bench.store, experiment(suite, "DiffKD"), around(69.92, TIGHT))
    write(bench.store, experiment(suite, "KD"), around(70.66, TIGHT))
    found = bench.compare().evidence
    assert found.numbers == {"authors": 2, "cited": 3}
    assert found.every["cited"] == {"runs": {"reproduced": 1}, "source": {"miscopied": 1, "as in its source": 1}}
    assert found.best["authors"] == {"runs": {"below": 1}, "nothing": {"nothing": 1}}
    assert found.best["cited"] == {
        "runs": {"reproduced": 1},
        "source": {"as in its source": 1},
        "nothing": {"nothing": 1},
    }
    assert found.sentences == (
        "Of 2 numbers of the authors' own, 1 was tested: 1 by runs (below 1).",
        "Of 3 numbers copied from others, 1 is as in the source, 1 miscopied, 1 not looked up.",
        "Of 5 numbers in all, 2 were tested by more than reading: 1 lower than printed, 1 as printed; 3 are open.",
    )


def test_what_there_is_none_of_is_not_counted() -> None:
    assert evidence_summary(()).sentences == ("None of these numbers is one that the paper prints.",)


def test_a_copy_of_a_table_is_counted_once(bench: Bench) -> None:
    once = bench.compare().evidence
    bench.table("copied", repeats="small")
    assert bench.compare().evidence == once


# The paper's numbers, as of now


@cache
def paper() -> Comparison:
    return compare(Sources((Path("nowhere"),)))


def words(word: SourceWord) -> set[str]:
    return {cell.id for cell in paper().cells if cell.evidence.source and cell.evidence.source.word is word}


def test_how_the_cited_numbers_fall() -> None:
    assert {word: len(words(word)) for word in SourceWord} == {
        SourceWord.AS_IN_SOURCE: 269,
        SourceWord.DIFFERENT_SETTING: 10,
        SourceWord.DISAGREE: 3,
        SourceWord.MISCOPIED: 13,
        SourceWord.NOT_FOUND: 73,
    }
    assert sum(paper().evidence.every["cited"]["source"].values()) == paper().evidence.numbers["cited"] == 368


def test_which_numbers_are_not_as_in_their_source() -> None:
    columns = ("AP", "AP50", "AP75", "APS", "APM", "APL")
    assert words(SourceWord.MISCOPIED) == {
        "table2/MBV1 (R50) Top-1/Tea.",
        *(f"table3/{pair} (ResNet-50)/Tea." for pair in ("ResNet-34", "MobileNetV2", "EfficientNet-B0")),
        *(f"table4/One-stage detectors/FRS/{column}" for column in columns),
        "table5/Two-stage detectors/FGD/APS",
        "table5/One-stage detectors/T: RetinaNet-X101/AP",
        "table9/DIST/WRN-40-2 -> WRN-40-1",
    }
    assert words(SourceWord.DISAGREE) == {
        "table3/Swin-T (Swin-L)/Stu.",
        "table4/One-stage detectors/S: RetinaNet-R50/APS",
        "table5/One-stage detectors/S: RetinaNet-R50/APS",
    }
    assert words(SourceWord.DIFFERENT_SETTING) == {
        *(f"table4/Two-stage detectors/FRS/{column}" for column in columns),
        *(f"table2/MBV1 (R50) {top}/{method}" for top in ("Top-1", "Top-5") for method in ("Review", "DKD")),
    }


def test_a_cost_that_was_rounded_twice_says_so() -> None:
    cell = next(cell for cell in paper().cells if cell.id == "table6/PSPNet-R18/CWD/FLOPs (G)")
    assert cell.evidence.source is not None and cell.evidence.source.word is SourceWord.AS_IN_SOURCE
    assert any("507.3466 unrounded" in reading.note for reading in cell.evidence.source.readings)


def test_three_runs_of_dists_own_code_are_judged() -> None:
    cell = next(cell for cell in paper().cells if cell.id == "table2/R18 (R34) Top-1/DIST")
    (series,) = (other for other in cell.evidence.reruns if other.runs == 3)
    assert series.values == (71.69, 71.82, 71.90) and series.judgement is not None
    assert series.judgement == judge(Published(72.07, 2, "imagenet", "top1"), Sample(series.values), load_rules())
    assert cell.evidence.best is EvidenceKind.RERUNS and cell.achieved is not None and cell.achieved.n == 0
