"""One cell and its runs, as a report shows it, with a verdict for every reference asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmark.errors import UsageError
from benchmark.judge import stats
from benchmark.judge.cases import CellCase
from benchmark.judge.contrasts import Contender, contest_of, method_names
from benchmark.judge.costs import StaticResults
from benchmark.judge.others import OthersRerun, judged_rerun
from benchmark.judge.rule_chain import judge_epochs
from benchmark.judge.samples import EpochChoice, Published, Sample
from benchmark.judge.sources import SourceCheck, SourceWord, check_source
from benchmark.judge.verdicts import JUDGED, Blocked, Judgement, Verdict
from benchmark.judge.views import Achieved, CellEvidence, CellView, Coverage, EvidenceKind, Mode, Reference
from benchmark.paper.readings import Elsewhere
from benchmark.paper.rules import Rules
from benchmark.paper.suite import Cell
from benchmark.plan.experiment import STATIC_METRICS

OURS = "ours"  # runs that nobody else contributed


def is_static(cell: Cell) -> bool:
    """Return True if a cell's number is known from the networks alone."""
    return cell.metric in STATIC_METRICS


def trained_cell(
    cell: Cell, case: CellCase, rules: Rules, mode: Mode, elsewhere: Elsewhere | None = None
) -> tuple[CellView, Contender | None]:
    """Return a cell measured by training, and a contender (None if the paper's number cannot be judged)."""
    selection: EpochChoice = cell.setting.epoch or "unknown"
    last, best = case.achieved("last"), case.achieved("best")
    published = None
    if cell.value is not None:
        published = _published(cell, cell.value, cell.digits, cell.std, cell.setting.runs, rules)
    others = _others(cell, published, rules, elsewhere)
    paper: Reference | None = None
    references: list[Reference] = []
    problem = ""
    try:
        if cell.value is not None:
            judgement = _judge(cell, published, last, best, selection, rules, case.blocked)
            paper = _paper_reference(cell, cell.value, judgement, cell.setting.runs)
            references += [paper] if mode != "reruns" else []
        if mode != "paper":
            references += [_rerun_reference(cell, case, rerun, last, best, rules) for rerun in others]
    except UsageError as error:
        references, problem = [], error.message
    view = replace(
        _blank(cell),
        experiment=case.experiment.identity if case.experiment else None,
        label=case.experiment.label if case.experiment else "",
        achieved=shown(case) if case.experiment else None,
        best=_achieved(best, "best") if case.experiment and selection == "unknown" else None,
        references=tuple(references),
        runs=tuple(run.id for run in case.runs),
        extra=tuple(run.id for run in case.extra),
        set_aside=tuple(each.id for run in case.runs for each in run.views() if each.set_aside),
        near=tuple(run.id for run in case.near if run not in case.runs),
        notes=tuple(_cell_notes(cell, case)),
        problem=problem,
        evidence=_ranked(
            CellEvidence(
                source=_source(cell, elsewhere),
                reruns=others,
                runs=paper.judgement.verdict if paper is not None and case.runs else None,
                whose=_whose(case),
            )
        ),
    )
    if paper is None or published is None:
        return view, None
    sample = best if selection == "best" else last
    return view, Contender(cell, published, sample, paper.judgement.verdict, paper.judgement.reason)


def _paper_reference(cell: Cell, value: float, judgement: Judgement, runs: int | None) -> Reference:
    source = cell.setting.source or ""
    return Reference("paper", cell.printed or "", value, cell.std, cell.digits, runs, source, judgement)


def _rerun_reference(
    cell: Cell, case: CellCase, rerun: OthersRerun, last: Sample, best: Sample, rules: Rules
) -> Reference:
    """Return a re-run by others as a number that ours is compared with. Its epoch is not known."""
    published = _published(cell, rerun.value, rerun.digits, rerun.std, rerun.runs, rules)
    judgement = _judge(cell, published, last, best, "unknown", rules, case.blocked)
    return Reference("rerun", rerun.printed, rerun.value, rerun.std, rerun.digits, rerun.runs, rerun.source, judgement)


def _others(
    cell: Cell, published: Published | None, rules: Rules, elsewhere: Elsewhere | None
) -> tuple[OthersRerun, ...]:
    if elsewhere is None or cell.value is None:
        return ()
    return tuple(judged_rerun(rerun, cell.value, published, rules) for rerun in elsewhere.reruns)


def _source(cell: Cell, elsewhere: Elsewhere | None) -> SourceCheck | None:
    """Return how a cited number stands to its source; None if it is not cited, or nobody looked for it."""
    if elsewhere is None or cell.printed is None or cell.standing != "cited":
        return None
    return check_source(cell.printed, elsewhere.readings)


def _whose(case: CellCase) -> dict[str, int]:
    """Return the number of a cell's runs by who contributed them, ours first."""
    counts = Counter(run.kept.contributor or OURS for run in case.runs)
    return {name: counts[name] for name in sorted(counts, key=lambda name: (name != OURS, name))}


def _ranked(evidence: CellEvidence) -> CellEvidence:
    """Return the evidence with its strongest kind."""
    if evidence.recomputed in (Verdict.EQUAL, Verdict.DIFFERS):
        kind = EvidenceKind.RECOMPUTED
    elif evidence.runs in JUDGED:
        kind = EvidenceKind.RUNS
    elif any(rerun.verdict in JUDGED for rerun in evidence.reruns):
        kind = EvidenceKind.RERUNS
    elif evidence.source is not None and evidence.source.word is not SourceWord.NOT_FOUND:
        kind = EvidenceKind.SOURCE
    else:
        kind = EvidenceKind.UNDECIDED if evidence.runs or evidence.reruns else EvidenceKind.NOTHING
    return replace(evidence, best=kind)


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


def static_cell(cell: Cell, static: StaticResults, mode: Mode, elsewhere: Elsewhere | None = None) -> CellView:
    """Return a cell that is known from the networks alone."""
    if cell.value is None:
        return _blank(cell)
    judgement, measured, note = static.judge(cell)
    evidence = _ranked(CellEvidence(recomputed=judgement.verdict, source=_source(cell, elsewhere)))
    if mode == "reruns":
        return replace(_blank(cell), evidence=evidence)
    return replace(
        _blank(cell),
        measured=measured,
        references=(_paper_reference(cell, cell.value, judgement, None),),
        notes=(*filter(None, (note,)), *_stated_notes(cell)),
        evidence=evidence,
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
