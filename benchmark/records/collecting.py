"""Records of others: checked file by file, and copied beside one's own without touching these."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.errors import BenchmarkError, UsageError
from benchmark.machine.files import write_atomically
from benchmark.records.evidence import RECORD_FILE, Evidence
from benchmark.records.rebuild import experiment_of
from benchmark.records.store import CONTRIBUTED, Record, Store, read_record

_NAME = re.compile(r"[\w.-]{1,40}")


@dataclass(frozen=True)
class Offered:
    """A record of somebody else that was checked."""

    record: Record
    path: Path
    place: Path  # where it is copied to
    known: str = ""  # where a record of the same run with the same outcome is already
    conflict: str = ""  # where one with another outcome is


@dataclass
class Checked:
    """All files of a folder, by what the checks found."""

    offered: list[Offered] = field(default_factory=list)
    refused: dict[Path, str] = field(default_factory=dict)

    @property
    def fresh(self) -> list[Offered]:
        """Return the records that are not here yet."""
        return [offered for offered in self.offered if not offered.known]

    def refuse(self, offered: Offered, why: str) -> None:
        """Refuse a record after all."""
        self.offered.remove(offered)
        self.refused[offered.path] = why


def check(folder: Path, name: str, here: Evidence, store: Store) -> Checked:
    """Check every record below a folder: its types, and that its settings give the identity that it names.

    Raises:
        UsageError: the folder has no records, or the contributor's name is not fit for a folder's name.
    """
    if not _NAME.fullmatch(name) or name.startswith("."):
        raise UsageError(f"{name!r} cannot name a folder", "use letters, digits, points and hyphens: --from some-lab")
    paths = [path for path in sorted(folder.rglob("r*.json")) if RECORD_FILE.match(path.name)]
    if not paths:
        raise UsageError(f"no records are below {folder}", "name a folder with files such as .../kd-IDENTITY/r0.json")
    found = Checked()
    for path in paths:
        record = read_record(path)
        if not isinstance(record, Record):
            found.refused[path] = record.reason if record is not None else "it is gone"
            continue
        try:
            experiment_of(record, path)
        except BenchmarkError as error:
            found.refused[path] = error.message.removeprefix(f"{path}: ")
            continue
        found.offered.append(_offered(record, path, name, here, store))
    return found


def _offered(record: Record, path: Path, name: str, here: Evidence, store: Store) -> Offered:
    stem = f"{record.label.rpartition(' #')[0]}-{record.identity}"
    place = store.results / CONTRIBUTED / name / record.profile / stem / f"r{record.repetition}.json"
    run = here.runs.get((record.identity, record.repetition))
    if run is None:
        return Offered(record, path, place)
    where = str(run.kept.path)
    same = run.record.outcome() == record.outcome()
    return Offered(record, path, place, known=where if same else "", conflict="" if same else where)


def take(offered: Offered) -> Iterator[Path]:
    """Copy a record byte for byte, with its curves and weights, and yield what was written. Nothing is overwritten."""
    for suffix in (".csv", ".pt", ".json"):  # the record last: one that exists is complete
        path, target = offered.path.with_suffix(suffix), offered.place.with_suffix(suffix)
        if path.is_file() and not target.exists():
            content = path.read_bytes()
            write_atomically(target, lambda file, content=content: file.write(content))  # type: ignore[misc]
            yield target
