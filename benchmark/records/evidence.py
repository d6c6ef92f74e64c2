"""Records from any number of machines as one body of evidence: each run once, every oddity counted and reported.

Two records of one run (same identity and repetition) are copies if their outcomes are equal. If not they conflict: the
one whose source was committed counts, of several the one that finished first, so that a later run never replaces a
number that was already there. The others are kept, shown beside it, and change nothing.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from benchmark.records.facts import Code, Effective, ExperimentSettings, Hardware, ImagesUsed, TeacherFound
from benchmark.records.store import CONTRIBUTED, FORMAT, Record, Unreadable, read_record


@dataclass(frozen=True)
class RunView:
    """One run as its record describes it. The cells refer to it by `id`."""

    id: str  # `identity-r0`; of a record that was set aside `identity-r0~1`
    identity: str
    repetition: int
    label: str  # cifar100/resnet56-resnet20/kd #0
    profile: str
    status: str  # done, diverged, skipped
    reason: str  # why it was skipped, or where it diverged
    last: Mapping[str, float]  # metrics after the last epoch, in percent
    best: Mapping[str, float]  # metrics of the best epoch
    best_epoch: int | None
    tracked: Mapping[str, float]
    teacher: TeacherFound | None  # its weights' sha256 and measured accuracy
    experiment: ExperimentSettings  # every setting with its effective value
    data: ImagesUsed
    effective: Effective  # device, threads, precision, batch
    code: Code  # commit, dirty, source_sha256
    packages: Mapping[str, str]
    hardware: Hardware
    weights_sha256: str | None
    seconds: float
    images_per_second: float | None
    peak_memory_mb: float | None
    interruptions: int
    finished: str  # UTC, ISO 8601
    contributor: str  # who contributed the record; empty for the user's own
    path: str  # of the record, as the results folder was given
    curves: str | None  # of the curves file beside it (CSV, one row an epoch), None if there is none
    copies: int  # further records of the same run with the same outcome
    set_aside: str  # why it does not count: another record of the same run was preferred; else empty


class ProblemKind(StrEnum):
    """The kind of a problem with an input."""

    FOLDER = "folder"  # it does not exist, or it has no record
    MANIFEST = "manifest"  # a suite, the claims or the rules cannot be read
    UNREADABLE = "unreadable record"
    UNKNOWN = "unknown experiment"  # no cell of any suite asks for it
    CONFLICT = "conflicting records"
    METRIC = "metric"  # missing in the record, or out of range
    STATIC = "static results"
    BRIDGES = "bridges"  # the file of bridges over code changes cannot be read


@dataclass(frozen=True)
class InputProblem:
    """One problem with an input; the rest of the report is unaffected."""

    kind: ProblemKind
    where: str
    message: str


RECORD_FILE = re.compile(r"^r\d+\.json$")
# A record that cannot be read is known by its folder: cifar100/a-b/kd-<identity>/r2.json
PLACE = re.compile(r"-(?P<identity>[0-9a-f]{16})$")

Key = tuple[str, str, str, str]  # task, student, teacher's model, method with all its options


@dataclass(frozen=True)
class FoundRecord:
    """A record and its path."""

    record: Record
    path: Path
    contributor: str = ""  # whose it is, if not the user's own

    @property
    def preference(self) -> tuple[bool, str, str]:
        """Return a sort key, smallest first: a committed source, then the earliest, then the first path."""
        return (self.record.code.dirty is not False, self.record.finished or "~", str(self.path))


@dataclass(frozen=True)
class Settled:
    """One run: the record that counts, and the records that were set aside."""

    kept: FoundRecord
    copies: int  # with the same outcome, each under another path
    others: tuple[FoundRecord, ...]  # with another outcome

    @property
    def record(self) -> Record:
        """Return the record that counts."""
        return self.kept.record

    @property
    def id(self) -> str:
        """Return the run's id: `identity-rN`."""
        return f"{self.record.identity}-r{self.record.repetition}"

    def views(self) -> Iterator[RunView]:
        """Yield the run, then the records that were set aside."""
        yield _view(self.kept, self.id, self.copies)
        for number, other in enumerate(self.others, 1):
            yield _view(other, f"{self.id}~{number}", 0, f"its outcome differs; {self.kept.path} counts")


@dataclass(frozen=True)
class Evidence:
    """All records that were found, by run."""

    folders: tuple[str, ...]
    runs: Mapping[tuple[str, int], Settled]
    lost: Mapping[tuple[str, int], str]  # runs of which the only record cannot be read, and why
    records: int
    unreadable: int
    older_schema: int
    problems: tuple[InputProblem, ...] = field(repr=False)

    @cached_property
    def by_identity(self) -> Mapping[str, Sequence[Settled]]:
        """Return the runs of each experiment, by repetition."""
        found: dict[str, list[Settled]] = defaultdict(list)
        for key in sorted(self.runs):
            found[key[0]].append(self.runs[key])
        return found

    @cached_property
    def by_key(self) -> Mapping[Key, Sequence[str]]:
        """Return the identities of the experiments that train the same networks by the same method, in any way."""
        found: dict[Key, list[str]] = defaultdict(list)
        for identity, runs in self.by_identity.items():
            found[key_of(runs[0].record.experiment)].append(identity)
        return found

    @property
    def duplicates(self) -> int:
        """Return the number of records that only repeat another record."""
        return sum(run.copies for run in self.runs.values())

    @property
    def conflicts(self) -> int:
        """Return the number of runs whose records disagree."""
        return sum(bool(run.others) for run in self.runs.values())


def key_of(described: ExperimentSettings) -> Key:
    """Return the key that stays the same if only the protocol changes."""
    teacher = described.teacher.model if described.teacher is not None else ""
    return described.task, described.student, teacher, json.dumps(described.method, sort_keys=True)


def collect(folders: Iterable[Path]) -> Evidence:
    """Read every record below some folders. A problem with one record leaves the others as they are."""
    places = list({folder.resolve(): folder for folder in folders}.values())
    found: dict[tuple[str, int], list[FoundRecord]] = defaultdict(list)
    lost: dict[tuple[str, int], str] = {}
    problems: list[InputProblem] = []
    read = older = 0
    for folder in places:
        if not folder.is_dir():
            problems.append(InputProblem(ProblemKind.FOLDER, str(folder), "there is no such folder"))
            continue
        for path in sorted(path for path in folder.rglob("r*.json") if RECORD_FILE.match(path.name)):
            record = read_record(path)
            if isinstance(record, Record):
                read += 1
                older += record.schema_version < FORMAT
                found[record.identity, record.repetition].append(FoundRecord(record, path, _contributor(path, folder)))
            elif isinstance(record, Unreadable):
                problems.append(InputProblem(ProblemKind.UNREADABLE, str(path), record.reason))
                if place := PLACE.search(path.parent.name):
                    lost[place["identity"], int(path.stem[1:])] = record.reason
    unreadable = sum(problem.kind is ProblemKind.UNREADABLE for problem in problems)
    runs = {key: _settle(records) for key, records in sorted(found.items())}
    problems += [_conflict(run) for run in runs.values() if run.others]
    if not read:
        where = ", ".join(map(str, places)) or "no folder"
        fix = "python -m benchmark run SUITE writes some"
        problems.append(InputProblem(ProblemKind.FOLDER, where, f"no record that can be read; {fix}"))
    return Evidence(
        folders=tuple(map(str, places)),
        runs=runs,
        lost={key: reason for key, reason in lost.items() if key not in runs},
        records=read,
        unreadable=unreadable,
        older_schema=older,
        problems=tuple(problems),
    )


def _contributor(path: Path, folder: Path) -> str:
    first, *rest = path.relative_to(folder).parts
    return rest[0] if first == CONTRIBUTED and len(rest) > 1 else ""


def _settle(found: Sequence[FoundRecord]) -> Settled:
    kept, *rest = sorted(found, key=lambda each: each.preference)
    outcome = kept.record.outcome()
    others = tuple(each for each in rest if each.record.outcome() != outcome)
    return Settled(kept, len(rest) - len(others), others)


def _conflict(run: Settled) -> InputProblem:
    records = [run.kept, *run.others]
    kinds = "; ".join(f"{_said(each.record)} in {each.path}" for each in records)
    why = "committed source first, then the earliest"
    return InputProblem(ProblemKind.CONFLICT, run.id, f"{run.record.label}: {kinds}. The first counts ({why})")


def _said(record: Record) -> str:
    if record.status != "done":
        return record.status
    return ", ".join(f"{name} {value:g}" for name, value in sorted(record.last.items())) or "done"


def _view(found: FoundRecord, ident: str, copies: int, set_aside: str = "") -> RunView:
    record = found.record
    curves = found.path.with_suffix(".csv")
    same = {name: getattr(record, name) for name in _SAME}
    return RunView(
        id=ident,
        label=record.label,
        profile=record.profile,
        contributor=found.contributor,
        path=str(found.path),
        curves=str(curves) if curves.is_file() else None,
        copies=copies,
        set_aside=set_aside,
        **same,
    )


_SAME = tuple(
    name
    for name in RunView.__dataclass_fields__
    if name not in ("id", "label", "profile", "contributor", "path", "curves", "copies", "set_aside")
)
