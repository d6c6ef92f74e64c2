"""The runs that belong to a cell, and the reasons that prevent a judgement: rule 2 of the comparison.

The runs of a cell are those of its own experiment, the declared repetitions alone. If it has none, runs of the same
networks by the same method count as near: under another protocol they make a `protocol mismatch`, under a reduced
profile the cell is `not comparable`. A near run that another cell asks for is only that cell's run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmark.judge import stats
from benchmark.judge.bridges import Bridges
from benchmark.judge.protocol import differences, other_images
from benchmark.judge.samples import Sample
from benchmark.judge.verdicts import Blocked, Verdict
from benchmark.paper.datasets import STAND_INS
from benchmark.paper.rules import Rules
from benchmark.paper.suite import Cell, Suite, TeacherSpec
from benchmark.paper.tasks import DEFAULT_TASK, TASKS
from benchmark.plan.experiment import Experiment, experiment_of, same, why_left_out
from benchmark.records.evidence import Evidence, InputProblem, ProblemKind, Settled, key_of
from benchmark.records.facts import ExperimentSettings
from benchmark.records.store import Record


@dataclass(frozen=True)
class Basis:
    """The facts that all cells of a comparison share."""

    rules: Rules
    evidence: Evidence
    experiments: Mapping[str, Experiment | None]  # by cell
    declared: Mapping[str, int]  # repetitions by identity, the most that any suite declares
    teachers: Mapping[tuple[str, str, str], float]  # published accuracy by suite (or none), data set and model
    source: str  # hash of this program's source
    bridges: Bridges


@dataclass(frozen=True)
class CellCase:
    """A cell with its runs."""

    cell: Cell
    experiment: Experiment | None
    declared: int
    runs: tuple[Settled, ...] = ()  # that are judged: its own, or near ones of one other experiment
    extra: tuple[Settled, ...] = ()
    near: tuple[Settled, ...] = ()
    blocked: Blocked | None = None
    notes: tuple[str, ...] = ()
    smoke: bool = False  # whether a smoke run of it finished
    own: bool = False  # whether a declared repetition of the cell's own experiment is recorded

    def achieved(self, selection: str) -> Sample:
        """Return the declared repetitions in the cell's metric.

        Values that cannot be used are left out; `problems` lists them.
        """
        usable = {run.record.repetition: value for run, value, problem in self._values(selection) if not problem}
        diverged = sum(run.record.status == "diverged" for run in self.runs)
        return Sample(tuple(usable.values()), diverged, tuple(usable), self.declared)

    @property
    def problems(self) -> tuple[InputProblem, ...]:
        """Return the problems of records that finished but whose metric cannot be used."""
        found = [
            _unusable(run, problem) for kind in ("last", "best") for run, _, problem in self._values(kind) if problem
        ]
        return tuple(dict.fromkeys(found))

    def _values(self, selection: str) -> Iterator[tuple[Settled, float, str]]:
        """Yield each finished run, its value, and the reason why the value cannot be used, or an empty string."""
        metric = self.cell.metric
        for run in self.runs:
            metrics = run.record.last if selection == "last" else run.record.best
            if run.record.status != "done":
                continue
            if metric not in metrics:
                yield run, 0.0, f"no {metric} of the {selection} epoch"
            elif not 0 <= metrics[metric] <= 100:
                yield run, 0.0, f"{metric} is {metrics[metric]:g}, not a percentage"
            else:
                yield run, metrics[metric], ""


def _unusable(run: Settled, problem: str) -> InputProblem:
    message = f"repetition {run.record.repetition}: {problem}; it is left out"
    return InputProblem(ProblemKind.METRIC, str(run.kept.path), message)


def experiments_of(suites: Iterable[Suite], evidence: Evidence) -> dict[str, Experiment | None]:
    """Return the experiment of every cell and variant under its suite's own profile.

    If a smoke suite was run on generated images, that is its experiment. A variant that makes the same experiment as
    the cell itself is left out: a column's other recipe does not change how its teacher is trained.
    """
    found: dict[str, Experiment | None] = {}
    for suite in suites:
        name = suite.file.profile
        profile = suite.profile(name)
        main: Experiment | None = None
        for cell in suite.every_cell:
            experiment = experiment_of(cell, name, profile)
            if not cell.variant:
                main = experiment
            elif experiment is None or same(experiment, main):
                continue
            if name == "smoke" and experiment is not None and experiment.identity not in evidence.by_identity:
                stand_in = experiment_of(cell, name, profile, stand_in=True, absent=STAND_INS)
                if stand_in is not None and stand_in.identity in evidence.by_identity:
                    experiment = stand_in
            found[cell.id] = experiment
    return found


def declared_repetitions(suites: Iterable[Suite], experiments: Mapping[str, Experiment | None]) -> dict[str, int]:
    """Return the number of declared repetitions of each experiment: the most that any suite asks for."""
    found: dict[str, int] = {}
    for suite in suites:
        asked = suite.profile(suite.file.profile).repetitions or suite.file.repetitions
        for cell in suite.every_cell:
            experiment = experiments.get(cell.id)
            if experiment is not None:
                found[experiment.identity] = max(declared_of(cell, asked), found.get(experiment.identity, 0))
                if isinstance(experiment.teacher, Experiment):
                    found.setdefault(experiment.teacher.identity, 1)
    return found


def declared_of(cell: Cell, asked: int) -> int:
    """Return the number of repetitions that count for a cell: those asked for, but one of a teacher."""
    return 1 if cell.setting.subject == "teacher" else asked


def published_teachers(cells: Iterable[Cell]) -> dict[tuple[str, str, str], float]:
    """Return the printed accuracy of each teacher by suite, and by an empty suite name the first one found."""
    found: dict[tuple[str, str, str], float] = {}
    for cell in cells:
        setting = cell.setting
        main = TASKS[setting.task or DEFAULT_TASK].metric
        if setting.subject == "teacher" and cell.metric == main and cell.value is not None:
            model = setting.teacher.model if isinstance(setting.teacher, TeacherSpec) else str(setting.teacher)
            for suite in (cell.suite, ""):
                found.setdefault((suite, str(setting.data), model), cell.value)
    return found


def recorded(cell: Cell, experiment: Experiment, declared: int, evidence: Evidence) -> CellCase:
    """Return a cell with the runs of its own experiment; those beyond the declared repetitions are extra."""
    found = evidence.by_identity.get(experiment.identity, ())
    own = tuple(run for run in found if run.record.repetition < declared)
    return CellCase(
        cell,
        experiment,
        declared,
        own,
        extra=tuple(run for run in found if run.record.repetition >= declared),
        own=bool(own),
    )


def case_of(cell: Cell, basis: Basis) -> CellCase:
    """Return the runs of a cell that is measured by training, with the first reason that prevents judging it."""
    experiment = basis.experiments[cell.id]
    if experiment is None:
        reason = cell.setting.not_verifiable
        verdict = Verdict.NOT_VERIFIABLE if reason else Verdict.NOT_RUN
        return CellCase(cell, None, 0, blocked=(verdict, reason or why_left_out(cell)))
    case = recorded(cell, experiment, basis.declared[experiment.identity], basis.evidence)
    near = _near(experiment, cell, basis)
    runs, blocked = _blocked(cell, experiment, case.runs, near, basis)
    return replace(
        case,
        runs=tuple(run for run in runs if run.record.repetition < case.declared),
        near=tuple(near),
        blocked=blocked,
        notes=tuple(_notes(experiment, case.runs, case.extra, case.declared, basis)),
        smoke=any(run.record.profile == "smoke" and run.record.status == "done" for run in (*near, *case.runs)),
    )


def _near(experiment: Experiment, cell: Cell, basis: Basis) -> list[Settled]:
    """Return runs of the same networks by the same method that no cell asks for, or that are of a reduced profile.

    A cell of that reduced profile itself leaves those of other cells, and of its variants, to them.
    """
    names = {cell.setting.data, *STAND_INS.get(str(cell.setting.data), ())}
    found: list[Settled] = []
    for identity in basis.evidence.by_key.get(key_of(ExperimentSettings.of(experiment)), ()):
        runs = basis.evidence.by_identity[identity]
        described = runs[0].record.experiment
        same = identity == experiment.identity
        wanted = identity in basis.declared and runs[0].record.profile in ("paper", experiment.profile)
        if not same and not wanted and described.data.name in names:
            found += runs
    return found


def _blocked(
    cell: Cell, experiment: Experiment, own: Sequence[Settled], near: Sequence[Settled], basis: Basis
) -> tuple[Sequence[Settled], Blocked | None]:
    """Return the runs to judge, and the verdict and reason of rule 2, or None."""
    if cell.setting.not_verifiable:
        return own, (Verdict.NOT_VERIFIABLE, cell.setting.not_verifiable)
    skipped = [run.record.reason for run in own if run.record.status == "skipped"]
    if skipped and len(skipped) == len(own):
        return own, (Verdict.NOT_RUN, f"the method cannot serve this pair: {skipped[0]}")
    if not own:
        return _without_own(experiment, near)
    for run in own:
        if odd := _oddities(experiment, run):
            return own, (Verdict.PROTOCOL_MISMATCH, f"repetition {run.record.repetition}: {'; '.join(odd)}")
    if exchanged := _exchanged(experiment, own):
        return own, (Verdict.PROTOCOL_MISMATCH, exchanged)
    return own, teacher_gate(cell, experiment, own, basis)


def _without_own(experiment: Experiment, near: Sequence[Settled]) -> tuple[Sequence[Settled], Blocked]:
    ours = ExperimentSettings.of(experiment)
    other: dict[str, list[str]] = {}
    for run in near:
        theirs = run.record.experiment
        if run.record.profile == experiment.profile and run.record.identity not in other:
            other[run.record.identity] = differences(ours, theirs)
    mismatched = {identity: found for identity, found in other.items() if found}
    if mismatched:
        counts = {identity: sum(run.record.identity == identity for run in near) for identity in mismatched}
        chosen = max(sorted(mismatched), key=counts.__getitem__)
        more = f"; {len(mismatched) - 1} more experiments differ too" if len(mismatched) > 1 else ""
        runs = [run for run in near if run.record.identity == chosen]
        return runs, (Verdict.PROTOCOL_MISMATCH, f"{'; '.join(mismatched[chosen])}{more}")
    if other:
        found = sum(run.record.identity in other for run in near)
        return (), (Verdict.NOT_RUN, f"{found} runs are recorded, but of another revision of the method")
    reduced = sorted({run.record.profile for run in near} - {experiment.profile})
    if reduced:
        on = dict.fromkeys(found for run in near for found in _images_of(run.record))
        only = f"only {' and '.join(reduced)} runs are recorded: {len(near)}{', on ' if on else ''}{', '.join(on)}"
        return (), (Verdict.NOT_COMPARABLE, only)
    return (), (Verdict.NOT_RUN, "no run of this experiment is recorded")


def _images_of(record: Record) -> list[str]:
    """List the same differences as `other_images`, for the data that a run really used."""
    asked = record.experiment.data
    return other_images(asked.model_copy(update={"name": record.data.name or asked.name}))


def _oddities(experiment: Experiment, run: Settled) -> list[str]:
    """List the settings of a run, by its record, that differ from those of its own experiment."""
    record, found = run.record, []
    data = record.data.name
    if data is not None and data != experiment.data.name:
        found.append(f"trained on {data} data instead of {experiment.data.name}")
    sizes = (record.data.subset_train, record.data.subset_test)
    for split, asked, size in zip(("train", "test"), (experiment.data.train, experiment.data.test), sizes, strict=True):
        if size is not None and size != asked:
            found.append(f"a subset of {size} {split} images")
    precision = record.effective.precision
    if precision is not None and precision != experiment.precision:
        found.append(f"precision {precision} instead of {experiment.precision}")
    return found


def _exchanged(experiment: Experiment, runs: Sequence[Settled]) -> str:
    """Name the given weights that were not the same file in all repetitions. Return an empty string if all were."""
    seen: dict[str, dict[str, list[int]]] = {}
    for run in runs:
        found = {whose: file["sha256"] for whose, file in run.record.weight_files.items()}
        tensors = run.record.teacher.weights_sha256 if run.record.teacher is not None else None
        if tensors is not None and isinstance(experiment.teacher, TeacherSpec):
            found["teacher"] = tensors  # records of earlier versions have it too
        for whose, sha in found.items():
            seen.setdefault(whose, {}).setdefault(sha, []).append(run.record.repetition)
    for whose, files in seen.items():
        if len(files) > 1:
            each = "; ".join(f"{sha[:12]} in {', '.join(map(str, numbers))}" for sha, numbers in files.items())
            return f"the repetitions were given different weights of the {whose}: sha256 {each}"
    return ""


def teacher_gate(cell: Cell, experiment: Experiment, runs: Sequence[Settled], basis: Basis) -> Blocked | None:
    """Return a blocking verdict if the runs' teacher is not as accurate as the published one, else None."""
    numbers = _teacher_numbers(cell, experiment, runs, basis)
    if numbers is None:
        return None
    name, published, measured, tolerance = numbers
    gap = max((value - published for value in measured), key=abs)
    if not stats.beyond(abs(gap), tolerance):  # 72.84 - 72.34 is 0.5000000000000071
        return None
    found = f"the teacher {name} has {published + gap:.2f} where {published:g} is published"
    return Verdict.TEACHER_MISMATCH, f"{found}: {gap:+.2f}, the tolerance is {tolerance:g}"


def _teacher_numbers(
    cell: Cell, experiment: Experiment, runs: Sequence[Settled], basis: Basis
) -> tuple[str, float, list[float], float] | None:
    teacher, metric = experiment.teacher, TASKS[experiment.task].metric
    if teacher is None or cell.setting.subject == "teacher":
        return None
    pinned = isinstance(teacher, TeacherSpec)
    published = teacher.published if isinstance(teacher, TeacherSpec) else None
    for suite in (cell.suite, ""):
        if published is None:
            published = basis.teachers.get((suite, str(cell.setting.data), experiment.teacher_name))
    known = [run.record.teacher.metrics for run in runs if run.record.teacher is not None]
    # Pinned weights are held to their figure under the preparation of images that it was measured with.
    measured = [found.get(f"as_published_{metric}", found[metric]) for found in known if metric in found]
    if published is None or not measured:
        return None
    return experiment.teacher_name, published, measured, basis.rules.teacher_gate.tolerance(metric, pinned=pinned)


def _notes(
    experiment: Experiment, own: Sequence[Settled], extra: Sequence[Settled], declared: int, basis: Basis
) -> Iterable[str]:
    total = len(own)
    for number in range(declared):
        if reason := basis.evidence.lost.get((experiment.identity, number)):
            yield f"the record of repetition {number} cannot be read: {reason}"
    for run in own:
        if run.others:
            yield f"conflicting records: repetition {run.record.repetition} has {1 + len(run.others)} outcomes"
    if extra:
        beyond = f"{len(extra)} repetition{'s' if len(extra) > 1 else ''} beyond the declared {declared}"
        yield f"{beyond}: shown, but no verdict changes"
    sources = [basis.bridges.equal_to(run.record) for run in own if run.record.code.source_sha256]
    if sources and not frozenset.intersection(*sources):
        known = len({equal for equal in sources if not any(other < equal for other in sources)})
        yield f"code changed: the runs are of {known} sources that no bridge joins, under one revision of the method"
    if changed := sum(basis.source not in equal for equal in sources):
        yield f"code changed: {_of(changed, total)} of another source than this program's, and no bridge joins the two"
    if dirty := sum(run.record.code.dirty is True for run in own):
        yield f"{_of(dirty, total)} of a source that was not committed"
    if own and experiment.teacher is not None and not any(run.record.teacher for run in own):
        yield "the teacher's accuracy is not in the records, so it was not checked"


def _of(some: int, total: int) -> str:
    return "its runs are" if some == total else f"{some} of its {total} runs are"
