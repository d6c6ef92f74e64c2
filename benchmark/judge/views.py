"""The data model of a comparison: everything that a report shows, ready to print, with no arithmetic left to do.

`benchmark.judge.compare.compare` makes one; the report's HTML, Markdown, LaTeX, CSV and JSON read nothing else. All is
frozen and plain, so `to_json` is complete. Gaps are ours minus the reference's. Text is plain, never escaped.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from benchmark.judge.contrasts import Gain, OrderReport
from benchmark.judge.others import SHOWN, OthersRerun
from benchmark.judge.sources import SourceCheck
from benchmark.judge.stats import FalseFlags
from benchmark.judge.verdicts import JUDGED, Judgement, Verdict
from benchmark.records.evidence import InputProblem, RunView
from benchmark.records.facts import Part

COMPARISON_FORMAT = 2  # of comparison.json; raised when a field changes meaning

Mode = Literal["paper", "reruns", "all"]


@dataclass(frozen=True)
class Achieved:
    """The results of the declared repetitions in the cell's metric, under one epoch selection."""

    selection: str  # last, best
    values: tuple[float, ...]
    repetitions: tuple[int, ...]  # of the values
    declared: int
    diverged: int
    mean: float | None  # None without values
    std: float | None  # sample standard deviation, None below two values

    @property
    def n(self) -> int:
        """Return the number of repetitions that finished."""
        return len(self.values)

    @property
    def text(self) -> str:
        """Return the mean as text: `71.92±0.14`, `71.92`, or a dash."""
        if self.mean is None:
            return "-"
        return f"{self.mean:.2f}" + (f"±{self.std:.2f}" if self.std is not None else "")


@dataclass(frozen=True)
class Reference:
    """A number that ours is compared with, and the judgement."""

    kind: Literal["paper", "rerun"]
    printed: str  # as published: 71.92±0.14
    value: float
    std: float | None
    digits: int
    runs: int | None  # published runs that it is the mean of, None if not stated
    source: str
    judgement: Judgement


class EvidenceKind(StrEnum):
    """A kind of evidence that a number can have. The value is the word that is printed."""

    RECOMPUTED = "recomputed"
    RUNS = "runs"
    RERUNS = "re-runs by others"
    SOURCE = "source"
    UNDECIDED = "undecided"  # there are runs or re-runs, but none that can decide
    NOTHING = "nothing"


KINDS = (EvidenceKind.RECOMPUTED, EvidenceKind.RUNS, EvidenceKind.RERUNS, EvidenceKind.SOURCE)  # the strongest first


@dataclass(frozen=True)
class CellEvidence:
    """What is known about a published number, kind by kind. No kind is mixed with another."""

    recomputed: Verdict | None = None  # of a cost
    source: SourceCheck | None = None  # of a cited number that was looked for
    reruns: tuple[OthersRerun, ...] = ()
    runs: Verdict | None = None  # of the recorded runs, on the published number; None without runs
    whose: Mapping[str, int] = field(default_factory=dict)  # these runs by who contributed them, `ours` first
    best: EvidenceKind = EvidenceKind.NOTHING  # the strongest kind that says something

    def word(self, kind: EvidenceKind) -> str:
        """Return the word of one kind of evidence, or an empty string if the number has none of it."""
        if kind is EvidenceKind.RERUNS:
            verdicts = [rerun.verdict for rerun in self.reruns if rerun.verdict is not None]
            decided = [verdict for verdict in verdicts if verdict in JUDGED]
            return ", ".join(dict.fromkeys(decided or verdicts)) or (SHOWN if self.reruns else "")
        found = {
            EvidenceKind.RECOMPUTED: self.recomputed,
            EvidenceKind.RUNS: self.runs,
            EvidenceKind.SOURCE: self.source.word if self.source else None,
        }.get(kind)
        return str(found or "")


Counts = Mapping[str, Mapping[str, Mapping[str, int]]]  # of numbers, by standing (authors, cited), kind and word


@dataclass(frozen=True)
class EvidenceSummary:
    """How many published numbers have which evidence, and what that comes to."""

    numbers: Mapping[str, int] = field(default_factory=dict)  # by standing
    every: Counts = field(default_factory=dict)  # each kind that a number has is counted
    best: Counts = field(default_factory=dict)  # each number is counted once, by its strongest kind
    sentences: tuple[str, ...] = ()  # made from these counts


@dataclass(frozen=True)
class CellView:
    """One place of a table: the published number, the achieved one, and the verdict."""

    id: str  # suite/group/row/column, unique
    suite: str
    group: str
    row: str
    column: str
    metric: str
    data: str
    standing: str  # authors, cited
    static: bool  # known without training: parameters, multiply-adds
    printed: str | None  # by the paper, in every mode; None if it prints nothing
    method: str  # name of the method, `teacher` for a teacher's row, empty where it is not available
    recipe: str
    epoch: str  # which epoch the source reports: last, best, unknown
    source: str
    note: str
    unstated: str  # the part of the protocol that the source leaves open
    experiment: str | None  # identity; None if it is pending or static
    label: str  # of the experiment: cifar100/resnet56-resnet20/kd
    achieved: Achieved | None  # under the shown epoch selection; None without an experiment
    best: Achieved | None  # by the best epoch, if the source does not say which it reports
    measured: float | None  # of a static cell: the cost under the convention of its judgement
    references: tuple[Reference, ...]  # those that --compare asks for; may be empty
    runs: tuple[str, ...]  # ids of the declared repetitions that are recorded
    extra: tuple[str, ...]  # ids of repetitions beyond the declared number: shown, change nothing
    set_aside: tuple[str, ...]  # ids of records of the same runs with another outcome
    near: tuple[str, ...]  # ids of runs of the same rows under another protocol or profile
    notes: tuple[str, ...]  # what a reader should know: code changed, conflicting records, protocol partly unstated
    problem: str = ""  # why the cell could not be judged at all: no rule for its metric
    contest: str = ""  # cells with the same value differ only in the method; empty for teachers and costs
    variant: str = ""  # the reading that was run; empty for the suite's main one
    nfe: int | None = None  # denoising steps of DiffKD; None for other methods
    evidence: CellEvidence = CellEvidence()

    @property
    def judgement(self) -> Judgement | None:
        """Return the judgement against the first reference, or None if there is no reference."""
        return self.references[0].judgement if self.references else None

    @property
    def verdict(self) -> Verdict | None:
        """Return the verdict of the first reference's judgement, or None if there is no reference."""
        return self.judgement.verdict if self.judgement else None

    @property
    def ours(self) -> float | None:
        """Return our number, measured or trained, or None if there is none."""
        if self.static:
            return self.measured
        return self.achieved.mean if self.achieved else None


@dataclass(frozen=True)
class TableView:
    """A suite in the shape of the paper's table."""

    suite: str
    title: str
    table: str  # the table's number as the paper has it, or the suite's name
    source: str
    paper: str  # diffkd, kdiffusion, none
    note: str
    repeats: str  # the suite of which this table is a copy, or empty
    profile: str
    repetitions: int  # declared
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    gains: tuple[Gain, ...]
    expected: bool  # whether the orderings are a study's own, declared before it was run, and not published ones
    orderings: OrderReport | None  # None if no pair of rows could be compared
    left_out: int  # published (or expected) orderings of which one side has no usable runs
    flags: FalseFlags  # cells to expect below or above by chance, if all held
    figures: tuple[FigureView, ...]
    coverage: Coverage
    variants: tuple[CellView, ...] = ()  # cells under other readings that were run; no count or contrast includes them
    not_run: Mapping[str, int] = field(default_factory=dict)  # by reading, the cells that have it and no run of it

    @property
    def cells(self) -> Iterator[CellView]:
        """Yield the cells row by row."""
        return (cell for row in self.rows for cell in row.cells if cell is not None)


def counted(tables: Sequence[TableView]) -> list[TableView]:
    """Return the tables whose numbers are counted: a copy of another one that is shown is left out."""
    shown = {table.suite for table in tables}
    return [table for table in tables if table.repeats not in shown]


@dataclass(frozen=True)
class TableRow:
    """One row of a table. `cells` are in the order of the table's columns, None if there is no such cell."""

    group: str
    row: str
    standing: str
    cells: tuple[CellView | None, ...]

    @property
    def name(self) -> str:
        """Return the row's name with its group: `group: row`."""
        return f"{self.group}: {self.row}" if self.group else self.row


@dataclass(frozen=True)
class FigureView:
    """The quantity that a figure of the paper draws."""

    quantity: str
    number: str
    note: str
    row: str  # the row whose runs are drawn; empty for all


@dataclass(frozen=True)
class Coverage:
    """The progress of cells. Each count is of cells with a published number."""

    encoded: int = 0  # written down in a manifest
    static: int = 0  # of them known without training
    runnable: int = 0  # of the others, all that their experiment needs is available
    verified: int = 0  # static, and equal to the printed digits
    smoke_run: int = 0  # a smoke run of the experiment finished
    run: int = 0  # at least one declared repetition is recorded under the paper's profile
    judged: int = 0  # got a verdict by statistics: rules 5 to 8
    reproduced: int = 0

    def __add__(self, other: Coverage) -> Coverage:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Coverage(*(a + b for a, b in pairs))


@dataclass(frozen=True)
class ClaimAnswer:
    """The answer of one set of numbers to a claim."""

    outcome: str  # holds, depends on the reading, does not follow, cannot be checked
    claimed: str  # its two numbers as text; of a claim about many cells, how many should agree and how many do
    computed: str
    sentence: str
    exceptions: tuple[str, ...]
    close: bool  # rounding or spread alone could account for a failure
    readings: tuple[tuple[str, str, str], ...]  # name, outcome and sentence of other readings


@dataclass(frozen=True)
class ClaimView:
    """A sentence of the paper, with the answers of the paper's own numbers and of ours."""

    id: str
    text: str  # paper, poster, page, review, slides
    where: str
    quote: str
    kind: str
    reading: str
    note: str
    cells: tuple[str, ...]  # ids of the cells that the answer rests on
    published: ClaimAnswer
    achieved: ClaimAnswer | None  # None if a number that it needs was not achieved


@dataclass(frozen=True)
class Inputs:
    """The counts of what was read."""

    folders: tuple[str, ...]
    records: int  # readable
    used: int  # runs that serve a cell, under any profile
    duplicates: int  # copies of a run with the same outcome
    conflicts: int  # runs with records of different outcome
    unreadable: int
    unknown: int  # readable records of experiments that no suite has
    teachers: int  # readable records of teachers that no cell shows, but that cells depend on
    older_schema: int
    newest: str  # when the last of them finished; empty without any
    problems: tuple[InputProblem, ...]


@dataclass(frozen=True)
class Provenance:
    """The origins of the numbers, each with its number of runs."""

    commits: Mapping[str, int]  # `+` marks a commit with uncommitted changes
    sources: Mapping[str, int]  # hashes of the harness's source
    packages: Mapping[str, int]  # `torch 2.11.0`
    hardware: Mapping[str, int]
    devices: Mapping[str, int]
    seconds: float  # of computing, all runs
    program: Mapping[str, str | bool | None]  # revision of the program that compared


@dataclass(frozen=True)
class RuleView:
    """One number of the rules."""

    name: str  # `margin, cifar100 top1`
    value: float
    source: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """The comparison of records with published numbers."""

    mode: Mode
    tables: tuple[TableView, ...]
    claims: tuple[ClaimView, ...]
    runs: Mapping[str, RunView]
    inputs: Inputs
    provenance: Provenance
    rules: tuple[RuleView, ...]
    notes: tuple[str, ...]  # for the head of the report, for example what to expect by chance
    evidence: EvidenceSummary = EvidenceSummary()
    meanings: Mapping[str, str] = field(default_factory=lambda: {str(v.value): v.meaning for v in Verdict})

    @property
    def cells(self) -> Iterator[CellView]:
        """Yield the cells of all tables."""
        return (cell for table in self.tables for cell in table.cells)

    @property
    def counts(self) -> dict[Verdict, int]:
        """Return the number of references for each verdict that occurs, in the rules' order."""
        cells = (cell for table in counted(self.tables) for cell in table.cells)
        found = Counter(reference.judgement.verdict for cell in cells for reference in cell.references)
        return {verdict: found[verdict] for verdict in Verdict if found[verdict]}

    @property
    def coverage(self) -> Coverage:
        """Return the coverage of all tables; copies of another table are left out."""
        return sum((table.coverage for table in counted(self.tables)), Coverage())

    def hit(self, gate: Iterable[Verdict]) -> tuple[tuple[CellView, Reference], ...]:
        """Return the cells and references whose verdict is among these."""
        wanted = frozenset(gate)
        return tuple((c, r) for c in self.cells for r in c.references if r.judgement.verdict in wanted)

    def to_json(self) -> dict[str, object]:
        """Return everything as data for `json.dumps`. Numbers that are not finite become None."""
        counts = {verdict.value: count for verdict, count in self.counts.items()}
        whole = plain(self)
        assert isinstance(whole, dict)
        return {"format": COMPARISON_FORMAT, "counts": counts, "coverage": plain(self.coverage), **whole}


def plain(value: object) -> object:
    """Return a value as JSON data: dataclasses as objects, tuples as lists, infinities as null."""
    kind = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Part):
        return plain(value.plain())
    if dataclasses.is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value.value if isinstance(value, StrEnum) else value


_AS_THEY_ARE = frozenset({str, int, bool, type(None)})
