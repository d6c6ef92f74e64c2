"""The parts of a comparison that concern all of it: inputs, provenance, rules, and general notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from pydantic import BaseModel

from benchmark.judge.cases import CellCase
from benchmark.judge.stats import expected_false_flags
from benchmark.judge.verdicts import JUDGED
from benchmark.judge.views import Inputs, Provenance, RuleView, TableView
from benchmark.machine import provenance
from benchmark.paper.rules import Rules, SourcedNumber
from benchmark.plan.experiment import Experiment
from benchmark.records.evidence import Evidence, InputProblem, ProblemKind, RunView, Settled


def unknown_runs(cases: Sequence[CellCase], evidence: Evidence) -> tuple[list[Settled], list[Settled]]:
    """Return the runs that no cell shows: of teachers that cells or runs depend on, and of experiments in no suite."""
    shown = {run.id for case in cases for run in chain(case.runs, case.extra, case.near)}
    teachers_of = (run.record.experiment.teacher for run in evidence.runs.values())
    needed = {str(teacher.experiment) for teacher in teachers_of if teacher is not None}
    for case in cases:
        teacher = case.experiment.teacher if case.experiment else None
        needed |= {teacher.identity} if isinstance(teacher, Experiment) else set()
    rest = [run for run in evidence.runs.values() if run.id not in shown]
    teachers = [run for run in rest if run.record.identity in needed]
    return teachers, [run for run in rest if run.record.identity not in needed]


def unknown_problems(unknown: Iterable[Settled]) -> Iterator[InputProblem]:
    """Yield one problem for each experiment that no suite has."""
    counts = Counter(run.record.identity for run in unknown)
    seen: set[str] = set()
    for run in unknown:
        record = run.record
        if record.identity not in seen:
            seen.add(record.identity)
            label = record.label.rpartition(" #")[0]
            message = (
                f"{label}, profile {record.profile}, {_runs(counts[record.identity])}: no cell of any suite asks for it"
            )
            yield InputProblem(ProblemKind.UNKNOWN, str(run.kept.path.parent), message)


def _runs(count: int) -> str:
    return f"{count} run{'s' if count != 1 else ''}"


def inputs_of(
    evidence: Evidence, teachers: Sequence[Settled], unknown: Sequence[Settled], problems: Iterable[InputProblem]
) -> Inputs:
    """Return the counts of what was read."""
    return Inputs(
        folders=evidence.folders,
        records=evidence.records,
        used=len(evidence.runs) - len(teachers) - len(unknown),
        duplicates=evidence.duplicates,
        conflicts=evidence.conflicts,
        unreadable=evidence.unreadable,
        unknown=len(unknown),
        teachers=len(teachers),
        older_schema=evidence.older_schema,
        newest=max((run.record.finished for run in evidence.runs.values()), default=""),
        problems=tuple(problems),
    )


def provenance_of(runs: Sequence[RunView]) -> Provenance:
    """Return the origins of the numbers: commits, sources, packages and hardware, with their numbers of runs."""

    def counted(found: Iterable[str]) -> dict[str, int]:
        return dict(sorted(Counter(filter(None, found)).items(), key=lambda item: (-item[1], item[0])))

    return Provenance(
        commits=counted(_commit(run) for run in runs),
        sources=counted(run.code.source_sha256 for run in runs),
        packages=counted(f"{name} {version}" for run in runs for name, version in run.packages.items()),
        hardware=counted(run.hardware.accelerator for run in runs),
        devices=counted(run.effective.device for run in runs),
        seconds=sum(run.seconds for run in runs),
        program=provenance.revision(),
    )


def _commit(run: RunView) -> str:
    return f"{run.code.commit}{'+' if run.code.dirty else ''}" if run.code.commit else ""


def rule_views(rules: Rules) -> Iterator[RuleView]:
    """Yield every number of the rules with its source."""
    for path, number in _numbers(rules, ()):
        yield RuleView(", ".join(path), number.value, number.source, number.reason)


def _numbers(part: BaseModel, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], SourcedNumber]]:
    for name in type(part).model_fields:
        value = getattr(part, name)
        if isinstance(value, SourcedNumber):
            yield (name.replace("_", " "), *path), value
        elif isinstance(value, BaseModel):
            yield from _numbers(value, (*path, name.replace("_", " ")))
        elif isinstance(value, tuple):
            for item in value:
                if isinstance(item, BaseModel):
                    named = " ".join((*([item.data] if hasattr(item, "data") else []), *getattr(item, "metrics", ())))
                    yield from _numbers(item, (*path, named))


def head_notes(tables: Sequence[TableView], rules: Rules) -> Iterator[str]:
    """Yield the notes that hold for every verdict, and the effect of chance alone."""
    shown = {table.suite for table in tables}
    copies = [table for table in tables if table.repeats in shown]
    judged = sum(cell.verdict in JUDGED for table in tables if table not in copies for cell in table.cells)
    if judged:
        flags = expected_false_flags(judged, rules.levels.prediction.value)
        yield (
            f"{judged} cells were judged by statistics. If every one of them truly held, chance alone would put "
            f"{flags.expected:.1f} of them below or above."
        )
    yield "All repetitions of a cell use one teacher: the spread between teachers is in no interval."
    yield "Gaps are ours minus the reference's: a negative gap says that ours is lower."
    yield "Gains and orderings use the last epoch where a source does not say which epoch it reports."
    if copies:
        named = ", ".join(f"{table.suite} (a copy of {table.repeats})" for table in copies)
        yield f"Not counted a second time: {named}."
