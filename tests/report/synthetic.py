"""Comparisons that no training has made: the real suites with drawn numbers, and one small table by hand."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark.judge.rule_chain import judge, judge_epochs, judge_static
from benchmark.judge.samples import Published, Sample
from benchmark.judge.stats import FalseFlags, Interval
from benchmark.judge.verdicts import Judgement, Verdict
from benchmark.judge.views import (
    Achieved,
    CellView,
    ClaimAnswer,
    ClaimView,
    Comparison,
    Coverage,
    Inputs,
    Provenance,
    Reference,
    TableRow,
    TableView,
)
from benchmark.paper.rules import load_rules
from benchmark.records.evidence import InputProblem, ProblemKind, RunView
from benchmark.records.facts import Code, Effective, ExperimentSettings, Hardware, ImagesUsed, TeacherFound

EPOCHS = 240
# By turns over the cells: shift of the mean, spread, repetitions, diverged, a verdict reached before any statistic.
FATES: tuple[tuple[float, float, int, int, Verdict | None], ...] = (
    (0.0, 0.06, 5, 0, None),
    (-0.1, 0.2, 5, 0, None),
    (-0.9, 0.15, 5, 0, None),
    (0.05, 0.05, 5, 0, None),
    (0.8, 0.12, 5, 0, None),
    (-0.3, 0.35, 3, 0, None),
    (-0.2, 0.2, 1, 0, None),
    (0.1, 0.2, 4, 1, None),
    (-0.6, 0.2, 5, 0, Verdict.PROTOCOL_MISMATCH),
    (-0.5, 0.2, 5, 0, Verdict.TEACHER_MISMATCH),
    (0.0, 0.2, 0, 0, Verdict.NOT_RUN),
    (0.0, 0.1, 5, 0, None),
    (0.0, 0.2, 0, 0, Verdict.NOT_COMPARABLE),
    (0.0, 0.2, 0, 0, Verdict.NOT_VERIFIABLE),
)


def run(identity: str = "0123456789abcdef", repetition: int = 0, **changes: Any) -> RunView:
    """A finished run."""
    plain = RunView(
        id=f"{identity}-r{repetition}",
        identity=identity,
        repetition=repetition,
        label=f"cifar100/resnet56-resnet20/kd #{repetition}",
        profile="paper",
        status="done",
        reason="",
        last={"top1": 70.5},
        best={"top1": 70.7},
        best_epoch=231,
        tracked={"task": 0.4},
        teacher=TeacherFound(weights_sha256="ab" * 32, top1=72.4),
        experiment=ExperimentSettings(student="resnet20"),
        data=ImagesUsed(name="cifar100"),
        effective=Effective(device="cuda:0", precision="fp32"),
        code=Code(commit="4f2c9d1e7b" * 4, dirty=repetition == 1, source_sha256="0011223344556677"),
        packages={"torch": "2.11.0"},
        hardware=Hardware(cpu="AMD EPYC 9454", gpu="NVIDIA H200"),
        weights_sha256="cd" * 32,
        seconds=4000.0 + 37 * repetition,
        images_per_second=31000.0,
        peak_memory_mb=900.0,
        interruptions=repetition % 2,
        finished=f"2026-05-{repetition + 1:02d}T10:20:30Z",
        contributor="",
        path=f"results/paper/x/r{repetition}.json",
        curves=None,
        copies=0,
        set_aside="",
    )
    return replace(plain, **changes)


def cell(row: str = "KD", column: str = "ResNet-56 -> ResNet-20", **changes: Any) -> CellView:
    """A published number that nobody has run."""
    published = Published(70.66, 2, "cifar100", "top1", 0.24)
    reference = Reference("paper", "70.66±0.24", 70.66, 0.24, 2, None, "CRD", judgement(Verdict.NOT_RUN, gap=None))
    assert published.value == reference.value
    plain = CellView(
        id=f"small/{row}/{column}",
        suite="small",
        group="",
        row=row,
        column=column,
        metric="top1",
        data="cifar100",
        standing="cited",
        static=False,
        printed="70.66±0.24",
        method="kd",
        recipe="A1",
        epoch="last",
        source="CRD (arXiv 1910.10699)",
        note="",
        unstated="",
        experiment="0123456789abcdef",
        label="cifar100/resnet56-resnet20/kd",
        achieved=None,
        best=None,
        measured=None,
        references=(reference,),
        runs=(),
        extra=(),
        set_aside=(),
        near=(),
        notes=(),
    )
    return replace(plain, **changes)


def judgement(verdict: Verdict, gap: float | None = -0.16) -> Judgement:
    """A judgement with numbers of every kind, or with none."""
    if gap is None:
        return Judgement(verdict, f"no numbers behind {verdict}", 0)
    return Judgement(
        verdict,
        f"the reason of {verdict}",
        3,
        gap,
        Interval(gap - 0.2, gap + 0.2, 0.9),
        0.6,
        0.3,
        smallest_gap_seen=0.8,
    )


def judged(verdict: Verdict, row: str, **changes: Any) -> CellView:
    """A cell with three runs and this verdict, whatever they say."""
    reference = Reference("paper", "70.66±0.24", 70.66, 0.24, 2, None, "CRD", judgement(verdict))
    achieved = Achieved("last", (70.4, 70.5, 70.6), (0, 1, 2), 3, 0, 70.5, 0.1)
    ids = tuple(run(repetition=number).id for number in range(3))
    return cell(row, **{"references": (reference,), "achieved": achieved, "runs": ids, **changes})


def table(*rows: tuple[CellView | None, ...], **changes: Any) -> TableView:
    """A table of these rows; its columns are those of the first."""
    lines = tuple(
        TableRow(first.group, first.row, first.standing, row) for row in rows for first in row[:1] if first is not None
    )
    columns = tuple(view.column for view in rows[0] if view is not None) if rows else ()
    plain = TableView(
        suite="small",
        title="A small table -> by hand",
        table="9",
        source="DiffKD (arXiv 2305.15712), Table 9",
        paper="diffkd",
        note="",
        repeats="",
        profile="paper",
        repetitions=3,
        columns=columns,
        rows=lines,
        gains=(),
        orderings=None,
        expected=False,
        left_out=0,
        flags=FalseFlags(0.0, 0.0),
        figures=(),
        coverage=Coverage(encoded=len(rows)),
    )
    return replace(plain, **changes)


def comparison(*tables: TableView, runs: Mapping[str, RunView] | None = None, **changes: Any) -> Comparison:
    """A comparison of these tables; its runs are three of one experiment unless given."""
    known = runs if runs is not None else {one.id: one for one in (run(repetition=number) for number in range(3))}
    inputs = Inputs(("results",), len(known), len(known), 0, 0, 0, 0, 0, 0, "2026-05-03T10:20:30Z", ())
    program = {"commit": "4f2c9d1e7b" * 4, "dirty": False, "source_sha256": "0011"}
    provenance = Provenance(
        {"4f2c9d1e7": 3}, {}, {"torch 2.11.0": 3}, {"NVIDIA H200": 3}, {"cuda:0": 3}, 12000, program
    )
    plain = Comparison("paper", tables, (), known, inputs, provenance, (), ())
    return replace(plain, **changes)


def empty() -> Comparison:
    """No table, no record."""
    problems = (InputProblem(ProblemKind.FOLDER, "results", "there is no such folder"),)
    inputs = Inputs(("results",), 0, 0, 0, 0, 0, 0, 0, 0, "", problems)
    return comparison(runs={}, inputs=inputs, provenance=Provenance({}, {}, {}, {}, {}, 0.0, {}))


def claim(**changes: Any) -> ClaimView:
    """A claim that its own table does not bear out."""
    answer = ClaimAnswer("does not follow", "0.28", "0.3", "73.6 - 73.3 = 0.3 is not 0.28", (), True, ())
    quote = "Removing it decreases the accuracy by 0.28%"
    plain = ClaimView("anm", "paper", "section 4.4", quote, "difference", "", "", (), answer, None)
    return replace(plain, **changes)


def curves(folder: Path, metric: str = "top1", final: float = 70.5, seed: int = 0) -> Path:
    """A curves file with the columns that training writes."""
    path = folder / f"{metric}-{seed}.csv"
    lines = [f"epoch,test.{metric},train.task,train.kd,train.gamma.bin00"]
    wobble = random.Random(seed)
    for epoch in range(1, EPOCHS + 1):
        reached = final - 30 * math.exp(-epoch / 25) - (2.5 if epoch < 150 else 0.8 if epoch < 180 else 0.0)
        noise = wobble.gauss(0, 0.8 if epoch < 150 else 0.15) if epoch < EPOCHS else 0.0
        row = (reached + noise, 0.3 + 3 * math.exp(-epoch / 40), 0.02 + math.exp(-epoch / 60))
        lines.append(f"{epoch}," + ",".join(f"{value:.6g}" for value in row) + ",")
    path.write_text("\n".join(lines) + "\n")
    return path


class Curves:
    """Five curves files a metric, which all runs of that metric share."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._known: dict[tuple[str, int], str] = {}

    def path(self, metric: str, repetition: int) -> str | None:
        """The file of a repetition, None without a folder."""
        key = metric, repetition % 5
        if self._folder is not None and key not in self._known:
            self._known[key] = str(curves(self._folder, metric, seed=key[1]))
        return self._known.get(key)


def populated(bare: Comparison, folder: Path | None = None, more: int = 0) -> Comparison:
    """The real tables with drawn results by turns of FATES; `more` repetitions where there are several.

    Curves lie in the folder where one is given.
    """
    drawn = Curves(folder)
    runs: dict[str, RunView] = {}
    tables, index = [], 0
    for each in bare.tables:
        lines = []
        for line in each.rows:
            cells = []
            for view in line.cells:
                index += 1
                cells.append(_fated(view, index, runs, drawn, more) if view is not None else None)
            lines.append(replace(line, cells=tuple(cells)))
        tables.append(_recounted(replace(each, rows=tuple(lines))))
    inputs = replace(bare.inputs, records=len(runs), used=len(runs), newest="2026-05-05T10:20:30Z")
    provenance = Provenance(
        {"4f2c9d1e7": len(runs) - 40, "4f2c9d1e7+": 40},
        {"0011223344556677": len(runs)},
        {"torch 2.11.0": len(runs), "python 3.11.9": len(runs)},
        {"NVIDIA H200": len(runs)},
        {"cuda:0": len(runs)},
        sum(one.seconds for one in runs.values()),
        {"commit": "4f2c9d1e7b" * 4, "dirty": False},
    )
    return replace(bare, tables=tuple(tables), runs=runs, inputs=inputs, provenance=provenance)


def _recounted(each: TableView) -> TableView:
    words = [view.verdict for view in each.cells if view.references]
    run_ = sum(bool(view.runs) for view in each.cells if view.references)
    coverage = replace(
        each.coverage,
        run=run_,
        smoke_run=run_,
        judged=sum(word in (Verdict.REPRODUCED, Verdict.BELOW, Verdict.ABOVE, Verdict.CONSISTENT) for word in words),
        reproduced=words.count(Verdict.REPRODUCED),
        verified=words.count(Verdict.EQUAL),
    )
    return replace(each, coverage=coverage, flags=FalseFlags(0.05 * len(words), 0.5))


def _fated(view: CellView, index: int, runs: dict[str, RunView], files: Curves, more: int) -> CellView:
    judgeable = view.static or any(view.metric in scale.metrics for scale in load_rules().scales)
    if not view.references or not judgeable:
        return view
    first = view.references[0]
    if view.static:
        value = first.value if index % 3 else first.value * 1.07
        said = judge_static(first.printed, {"multiply-adds": value})
        return replace(view, measured=value, references=(replace(first, judgement=said),))
    shift, spread, n, diverged, word = FATES[index % len(FATES)]
    n += more if n >= 3 else 0
    drawn = random.Random(index)
    last = [round(first.value + shift + drawn.gauss(0, spread), 2) for _ in range(n)]
    best = [round(value + abs(drawn.gauss(0.2, 0.1)), 2) for value in last]
    identity = f"{index:016x}"
    for repetition in range(n + diverged):
        went_wrong = repetition >= n
        one = run(
            identity,
            repetition,
            label=view.label,
            status="diverged" if went_wrong else "done",
            reason="step 1200: the term kd is not finite" if went_wrong else "",
            last={} if went_wrong else {view.metric: last[repetition]},
            best={} if went_wrong else {view.metric: best[repetition]},
            curves=None if went_wrong else files.path(view.metric, repetition),
        )
        runs[one.id] = one
    blocked = (word, f"the fate of {view.row}") if word is not None else None
    selection = "unknown" if view.epoch == "unknown" else "last"
    ours = [Sample(tuple(values), diverged, declared=n + diverged or 1) for values in (last, best)]
    published = Published(first.value, first.digits, view.data, view.metric, first.std, first.runs)
    said = judge_epochs(published, ours[0], ours[1], selection, load_rules(), blocked)
    others = (replace(r, judgement=_against(r, view, ours[0], blocked)) for r in view.references[1:])
    return replace(
        view,
        achieved=_summary("last", last, n + diverged, diverged) if n else None,
        best=_summary("best", best, n + diverged, diverged) if n and selection == "unknown" else None,
        references=(replace(first, judgement=said), *others),
        runs=tuple(f"{identity}-r{number}" for number in range(n + diverged)),
        experiment=identity,
    )


def _against(reference: Reference, view: CellView, ours: Sample, blocked: tuple[Verdict, str] | None) -> Judgement:
    published = Published(reference.value, reference.digits, view.data, view.metric, reference.std, reference.runs)
    return judge(published, ours, load_rules(), blocked)


def _summary(selection: str, values: list[float], declared: int, diverged: int) -> Achieved:
    spread = statistics.stdev(values) if len(values) > 1 else None
    numbers = tuple(range(len(values)))
    return Achieved(selection, tuple(values), numbers, declared, diverged, statistics.fmean(values), spread)
