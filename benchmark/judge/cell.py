"""One cell and its runs, as a report shows it, with a verdict for every reference asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmark.errors import UsageError
from benchmark.judge import stats
from benchmark.judge.cases import CellCase
from benchmark.judge.contrasts import Contender, contest_of, method_names
from benchmark.judge.costs import StaticResults
from benchmark.judge.rule_chain import judge_epochs
from benchmark.judge.samples import EpochChoice, Published, Sample
from benchmark.judge.verdicts import Blocked, Judgement, Verdict
from benchmark.judge.views import Achieved, CellView, Coverage, Mode, Reference
from benchmark.paper.rules import Rules
from benchmark.paper.suite import Cell, Rerun
from benchmark.plan.experiment import STATIC_METRICS

# Verdicts that statistics reached: rules 5 to 8.
JUDGED = frozenset(
    {
        Verdict.REPRODUCED,
        Verdict.BELOW,
        Verdict.ABOVE,
        Verdict.CONSISTENT,
        Verdict.INCONCLUSIVE,
        Verdict.DEPENDS_ON_EPOCH,
    }
)


def is_static(cell: Cell) -> bool:
    """Return True if a cell's number is known from the networks alone."""
    return cell.metric in STATIC_METRICS


def trained_cell(cell: Cell, case: CellCase, rules: Rules, mode: Mode) -> tuple[CellView, Contender | None]:
    """Return a cell measured by training, and a contender (None if the paper's number cannot be judged)."""
    selection: EpochChoice = cell.setting.epoch or "unknown"
    last, best = case.achieved("last"), case.achieved("best")
    problem = ""
    try:
        references = tuple(_references(cell, case, last, best, rules, mode))
    except UsageError as error:
        references, problem = (), error.message
    view = replace(
        _blank(cell),
        experiment=case.experiment.identity if case.experiment else None,
        label=case.experiment.label if case.experiment else "",
        achieved=shown(case) if case.experiment else None,
        best=_achieved(best, "best") if case.experiment and selection == "unknown" else None,
        references=references,
        runs=tuple(run.id for run in case.runs),
        extra=tuple(run.id for run in case.extra),
        set_aside=tuple(each.id for run in case.runs for each in run.views() if each.set_aside),
        near=tuple(run.id for run in case.near if run not in case.runs),
        notes=tuple(_cell_notes(cell, case)),
        problem=problem,
    )
    paper = next((reference for reference in references if reference.kind == "paper"), None)
    published = _published(cell, paper.value, paper.digits, paper.std, paper.runs, rules) if paper else None
    if paper is None or published is None:
        return view, None
    sample = best if selection == "best" else last
    return view, Contender(cell, published, sample, paper.judgement.verdict, paper.judgement.reason)


def _references(
    cell: Cell, case: CellCase, last: Sample, best: Sample, rules: Rules, mode: Mode
) -> Iterator[Reference]:
    """Yield the numbers that this mode compares with, each with its verdict."""
    if mode != "reruns" and cell.value is not None:
        published = _published(cell, cell.value, cell.digits, cell.std, cell.setting.runs, rules)
        judgement = _judge(cell, published, last, best, cell.setting.epoch or "unknown", rules, case.blocked)
        source = cell.setting.source or ""
        yield Reference(
            "paper", cell.printed or "", cell.value, cell.std, cell.digits, cell.setting.runs, source, judgement
        )
    if mode != "paper":
        for rerun in cell.reruns:
            yield _rerun(cell, case, rerun, last, best, rules)


def _rerun(cell: Cell, case: CellCase, rerun: Rerun, last: Sample, best: Sample, rules: Rules) -> Reference:
    """Return an independent re-run as a reference.

    Its epoch is not stated; trailing zeros of its digits are not kept.
    """
    digits = len(repr(rerun.value).partition(".")[2])
    published = _published(cell, rerun.value, digits, rerun.std, rerun.runs, rules)
    judgement = _judge(cell, published, last, best, "unknown", rules, case.blocked)
    printed = f"{rerun.value:g}" + (f"±{rerun.std:g}" if rerun.std is not None else "")
    return Reference("rerun", printed, rerun.value, rerun.std, digits, rerun.runs, rerun.source, judgement)


def _published(
    cell: Cell, value: float, digits: int, std: float | None, runs: int | None, rules: Rules
) -> Published | None:
    """Return the number in the form that the rules read, or None if they have no scale for its metric."""
    try:
        rules.scale(str(cell.setting.data), cell.metric)
        return Published(value, digits, str(cell.setting.data), cell.metric, std, runs)
    except UsageError:
        return None


def _judge(
    cell: Cell,
    published: Published | None,
    last: Sample,
    best: Sample,
    selection: EpochChoice,
    rules: Rules,
    blocked: Blocked | None,
) -> Judgement:
    if published is not None:
        return judge_epochs(published, last, best, selection, rules, blocked)
    if blocked is not None:
        return Judgement(*blocked, last.n)
    raise UsageError(f"suites/rules.yaml has no rule for {cell.metric} on {cell.setting.data}", "add a scale for it")


def shown(case: CellCase) -> Achieved:
    """Return the results that a table shows: of the best epoch if the source reports that one, else of the last."""
    selection = "best" if case.cell.setting.epoch == "best" else "last"
    return _achieved(case.achieved(selection), selection)


def _achieved(sample: Sample, selection: str) -> Achieved:
    return Achieved(
        selection=selection,
        values=sample.values,
        repetitions=sample.numbers,
        declared=sample.declared or 0,
        diverged=sample.diverged,
        mean=stats.mean(sample.values) if sample.n else None,
        std=stats.spread(sample.values) if sample.n > 1 else None,
    )


def static_cell(cell: Cell, static: StaticResults, mode: Mode) -> CellView:
    """Return a cell that is known from the networks alone."""
    if cell.value is None or mode == "reruns":
        return _blank(cell)
    judgement, measured, note = static.judge(cell)
    source = cell.setting.source or ""
    reference = Reference("paper", cell.printed or "", cell.value, cell.std, cell.digits, None, source, judgement)
    return replace(
        _blank(cell), measured=measured, references=(reference,), notes=(*filter(None, (note,)), *_stated_notes(cell))
    )


def _blank(cell: Cell) -> CellView:
    """Return a cell as its manifest describes it, without any run."""
    setting = cell.setting
    return CellView(
        id=cell.id,
        suite=cell.suite,
        group=cell.group,
        row=cell.row,
        column=cell.column,
        metric=cell.metric,
        data=setting.data or "",
        standing=cell.standing,
        static=is_static(cell),
        printed=cell.printed,
        method="teacher" if setting.subject == "teacher" else "+".join(method_names(cell)),
        recipe=setting.recipe or "",
        epoch=setting.epoch or "unknown",
        source=setting.source or "",
        note=setting.note or "",
        unstated=setting.unstated or "",
        experiment=None,
        label="",
        achieved=None,
        best=None,
        measured=None,
        references=(),
        runs=(),
        extra=(),
        set_aside=(),
        near=(),
        notes=(),
        variant=cell.variant,
        contest="" if is_static(cell) or setting.subject == "teacher" else " ".join(contest_of(cell)),
        nfe=_nfe(cell),
    )


def _nfe(cell: Cell) -> int | None:
    """Return the denoising steps of the cell's DiffKD, None for another method."""
    spec = cell.method()
    steps = spec.resolved().get("diffkd", {}).get("nfe") if spec else None
    return steps if isinstance(steps, int) else None


def _cell_notes(cell: Cell, case: CellCase) -> Iterator[str]:
    yield from case.notes
    yield from (f"{problem.message} ({Path(problem.where).name})" for problem in dict.fromkeys(case.problems))
    yield from _stated_notes(cell)


def _stated_notes(cell: Cell) -> Iterator[str]:
    if cell.setting.unstated:
        yield f"protocol partly unstated: {cell.setting.unstated}"


def coverage_of(view: CellView, case: CellCase | None) -> Coverage:
    """Return the coverage of one cell; all counts are 0 if the paper prints no number."""
    if view.printed is None:
        return Coverage()
    return Coverage(
        encoded=1,
        static=view.static,
        runnable=case is not None and case.experiment is not None,
        verified=view.verdict is Verdict.EQUAL,
        smoke_run=case is not None and case.smoke,
        run=case is not None and case.own,
        judged=view.verdict in JUDGED,
        reproduced=view.verdict is Verdict.REPRODUCED,
    )
