"""The comparison of records with published numbers: cells, gains, orderings, claims.

The result is a `benchmark.judge.views.Comparison`. Nothing is trained, and no statistic is computed here:
`benchmark.judge.rule_chain` judges, `benchmark.records.evidence` reads records, `benchmark.judge.cases` decides which
runs belong to a cell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.errors import UsageError, nearest
from benchmark.judge.answer import evidence_summary
from benchmark.judge.bridges import BRIDGES, Bridges, read_bridges
from benchmark.judge.cases import Basis, CellCase, case_of, declared_repetitions, experiments_of, published_teachers
from benchmark.judge.cell import coverage_of, is_static, static_cell, trained_cell
from benchmark.judge.claim_verdicts import audit, manifest_problems, read_claims
from benchmark.judge.contrasts import Contender, expected_orderings, gains, orderings
from benchmark.judge.costs import StaticResults, load_static
from benchmark.judge.stats import expected_false_flags
from benchmark.judge.summary import head_notes, inputs_of, provenance_of, rule_views, unknown_problems, unknown_runs
from benchmark.judge.verdicts import JUDGED
from benchmark.judge.views import CellView, Comparison, Coverage, FigureView, Mode, TableRow, TableView, counted
from benchmark.machine import provenance
from benchmark.machine.shipped import SUITES
from benchmark.paper.claims import CLAIMS
from benchmark.paper.manifest import load, suite_files
from benchmark.paper.readings import Elsewhere, load_readings, readings_path
from benchmark.paper.rules import load_rules
from benchmark.paper.suite import ProfileName, Suite
from benchmark.records.evidence import InputProblem, ProblemKind, collect


@dataclass(frozen=True)
class Sources:
    """The inputs of a comparison: the records, the suites and the claims."""

    folders: tuple[Path, ...]  # of records, from any number of machines
    mode: Mode = "paper"
    only: tuple[str, ...] = ()  # suites by name or file; if empty, all of the folder
    suites: Path = SUITES
    claims: Path = CLAIMS
    bridges: Path = BRIDGES
    profile: ProfileName | None = None  # of the runs; None: each suite's own


def compare(sources: Sources) -> Comparison:
    """Compare everything. Problems with an input are noted in the result, and the rest is compared.

    Raises:
        UsageError: a suite that is asked for does not exist, or the rules themselves cannot be read.
    """
    rules = load_rules()
    suites, problems = load_suites(sources.suites, sources.only)
    if sources.profile is not None:
        suites = [replace(s, file=s.file.model_copy(update={"profile": sources.profile})) for s in suites]
    shown = _chosen(suites, sources, problems)
    evidence = collect(sources.folders)
    static = load_static(sources.folders)
    experiments = experiments_of(suites, evidence)
    cells = [cell for suite in suites for cell in suite.cells]
    basis = Basis(
        rules=rules,
        evidence=evidence,
        experiments=experiments,
        declared=declared_repetitions(suites, experiments),
        teachers=published_teachers(cells),
        source=provenance.source_hash(),
        bridges=_bridges(sources.bridges, problems),
    )
    measured = (cell for suite in suites for cell in suite.every_cell if not is_static(cell) and cell.id in experiments)
    cases = {cell.id: case_of(cell, basis) for cell in measured}
    tables = [
        _table(suite, cases, basis, static, _elsewhere(suite, problems), sources.mode, problems) for suite in shown
    ]
    if sources.mode == "reruns":
        tables = [table for table in tables if any(cell.references for cell in table.cells)]
    claims, wrong = read_claims(cells, sources.claims)
    problems += [*wrong, *static.problems, *evidence.problems]
    teachers, unknown = unknown_runs(list(cases.values()), evidence)
    problems += unknown_problems(unknown)
    runs = {view.id: view for run in evidence.runs.values() for view in run.views()}
    return Comparison(
        mode=sources.mode,
        tables=tuple(tables),
        claims=audit(claims, (cell for table in tables for cell in table.cells), static.claims, rules)
        if claims
        else (),
        runs=runs,
        inputs=inputs_of(evidence, teachers, unknown, problems),
        provenance=provenance_of([view for view in runs.values() if not view.set_aside]),
        rules=tuple(rule_views(rules)),
        notes=tuple(head_notes(tables, rules)),
        evidence=evidence_summary(cell for table in counted(tables) for cell in table.cells),
    )


def load_suites(folder: Path = SUITES, also: Iterable[str] = ()) -> tuple[list[Suite], list[InputProblem]]:
    """Load every manifest, and the files in `also` that are in other folders. Return the suites and the problems."""
    suites: list[Suite] = []
    problems: list[InputProblem] = []
    own = {path.resolve(): path for path in suite_files(folder)}
    others = {path.resolve(): path for path in map(Path, also) if path.is_file()}
    for path in (own | others).values():
        try:
            suites.append(load(path))
        except UsageError as error:
            problems += manifest_problems(path, error)
    names = {suite.name for suite in suites}
    for suite in suites:
        copied = suite.file.repeats
        if copied is not None and copied not in names:
            message = f"repeats {copied!r}, which does not exist; {nearest(copied, names)}"
            problems.append(InputProblem(ProblemKind.MANIFEST, str(suite.path), message))
    return suites, problems


def _elsewhere(suite: Suite, problems: list[InputProblem]) -> Mapping[str, Elsewhere]:
    try:
        return load_readings(suite)
    except UsageError as error:
        problems += manifest_problems(readings_path(suite), error)
        return {}


def _bridges(path: Path, problems: list[InputProblem]) -> Bridges:
    try:
        return read_bridges(path)
    except UsageError as error:
        said = f"{error.message.removeprefix(f'{path}: ')}; code changes are noted as if there were no bridges"
        problems.append(InputProblem(ProblemKind.BRIDGES, str(path), said))
        return Bridges()


def _chosen(suites: Sequence[Suite], sources: Sources, problems: Sequence[InputProblem]) -> list[Suite]:
    broken = {Path(problem.where).stem for problem in problems}
    known = {suite.name for suite in suites}
    asked = [Path(name).stem if Path(name).is_file() else name for name in sources.only]
    for name in asked:
        if name not in known | broken:
            raise UsageError(f"no suite {name!r}", nearest(name, known))
    return [suite for suite in suites if not asked or suite.name in asked]


def _table(
    suite: Suite,
    cases: dict[str, CellCase],
    basis: Basis,
    static: StaticResults,
    elsewhere: Mapping[str, Elsewhere],
    mode: Mode,
    problems: list[InputProblem],
) -> TableView:
    views: dict[str, CellView] = {}
    contenders: list[Contender] = []
    coverage = Coverage()
    for cell in suite.cells:
        if is_static(cell):
            views[cell.id] = static_cell(cell, static, mode, elsewhere.get(cell.id))
        else:
            read = elsewhere.get(cell.id)
            views[cell.id], contender = trained_cell(cell, cases[cell.id], basis.rules, mode, read)
            contenders += [contender] if contender is not None else []
            problems += _new(problems, cases[cell.id])
        coverage += coverage_of(views[cell.id], cases.get(cell.id))
    variants, not_run = _variants(suite, cases, basis, mode)
    judged = sum(view.verdict in JUDGED for view in views.values())
    against = contenders if mode != "reruns" else []
    report, left_out = orderings(against, basis.rules)
    if suite.file.expected:
        achieved = {cell.id: cases[cell.id].achieved("last") for cell in suite.cells if not is_static(cell)}
        report, left_out = expected_orderings(suite, achieved, basis.rules)
    return TableView(
        suite=suite.name,
        title=suite.file.title,
        table=suite.file.table or suite.name,
        source=suite.file.source,
        paper=suite.file.paper,
        note=suite.file.note,
        repeats=suite.file.repeats or "",
        profile=suite.file.profile,
        repetitions=suite.profile(suite.file.profile).repetitions or suite.file.repetitions,
        columns=tuple(column.column for column in suite.file.columns),
        rows=tuple(_lines(suite, views)),
        gains=tuple(gains(against, basis.rules)),
        expected=bool(suite.file.expected),
        orderings=report,
        left_out=left_out,
        flags=expected_false_flags(judged, basis.rules.levels.prediction.value),
        figures=tuple(FigureView(f.quantity, f.number, f.note, f.row or "") for f in suite.file.figures),
        coverage=coverage,
        variants=variants,
        not_run=not_run,
    )


def _variants(
    suite: Suite, cases: dict[str, CellCase], basis: Basis, mode: Mode
) -> tuple[tuple[CellView, ...], Mapping[str, int]]:
    """Return the cells under other readings that were run, and by reading the number that were not."""
    found: list[CellView] = []
    not_run: Counter[str] = Counter()
    for cell in suite.every_cell:
        if cell.variant and (case := cases.get(cell.id)) is not None:
            if case.own or case.extra:
                found.append(trained_cell(cell, case, basis.rules, mode)[0])
            else:
                not_run[cell.variant] += 1
    return tuple(found), dict(not_run)


def _new(problems: Sequence[InputProblem], case: CellCase) -> list[InputProblem]:
    """Return a case's problems that are not listed yet: a record may serve several cells."""
    return [problem for problem in dict.fromkeys(case.problems) if problem not in problems]


def _lines(suite: Suite, views: dict[str, CellView]) -> Iterator[TableRow]:
    columns = [column.column for column in suite.file.columns]
    rows: dict[tuple[str, str], dict[str, CellView]] = {}
    for cell in suite.cells:
        rows.setdefault((cell.group, cell.row), {})[cell.column] = views[cell.id]
    for (group, row), found in rows.items():
        standings = {cell.standing for cell in found.values()}
        standing = standings.pop() if len(standings) == 1 else "mixed"
        yield TableRow(group, row, standing, tuple(found.get(column) for column in columns))
