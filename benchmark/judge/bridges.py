"""Join code changes by bridges: pairs of revisions between which the bits of runs are known to be equal.

A bridge covers a task, a method and a family of networks, computed in one way (device, step, precision). It covers
every processor: a change of the arithmetic shows on any of them. The processor on which it was compared is named.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import Field, TypeAdapter, ValidationError

from benchmark.errors import UsageError
from benchmark.machine.files import write_text
from benchmark.machine.plugins import ROOT
from benchmark.machine.shipped import RESULTS
from benchmark.models.registry import model
from benchmark.paper.yamlfile import Strict
from benchmark.records.store import Record

BRIDGES = RESULTS / "bridges.json"

Ground = tuple[str, str, str, str]  # where bits are compared: task, method, networks, computed


class Bridge(Strict):
    """Two sources under which the same experiments end bit-equal."""

    before: str = Field(min_length=1, description="hash of the older source, by its own rule")
    after: str = Field(min_length=1, description="hash of the newer source, by its own rule")
    commits: tuple[str, str] = Field(description="that have these sources")
    task: str
    networks: str = Field(description="families of student and teacher: their files in benchmark/models")
    computed: str = Field(description="device, step, precision")
    methods: dict[str, int] = Field(description="number of experiments that ended equal, by method")
    differing: dict[str, int] = Field({}, description="the same of methods that are not covered: some bits differ")
    form: str = Field(description="length of the runs, and their images")
    machine: str = Field(description="processor, instruction set, torch")
    finished: str = Field(description="UTC, ISO 8601")


_FILE = TypeAdapter(tuple[Bridge, ...])


@dataclass(frozen=True)
class Bridges:
    """All bridges, the earliest first."""

    entries: tuple[Bridge, ...] = ()

    @cached_property
    def _joined(self) -> Mapping[Ground, Sequence[frozenset[str]]]:
        """Return the groups of equal sources: equality holds in both directions, and from one bridge to the next."""
        found: dict[Ground, list[frozenset[str]]] = {}
        for bridge in self.entries:
            for method in bridge.methods:
                groups = found.setdefault((bridge.task, method, bridge.networks, bridge.computed), [])
                ends = frozenset((bridge.before, bridge.after))
                touched = [group for group in groups if group & ends]
                groups[:] = [*(group for group in groups if group not in touched), ends.union(*touched)]
        return found

    def equal_to(self, record: Record) -> frozenset[str]:
        """Return the hashes of all sources that are known to give a record's bits, its own among them."""
        own = record.code.source_sha256
        groups = self._joined.get(ground_of(record), ()) if self.entries else ()
        return next((group for group in groups if own in group), frozenset({own}))

    @property
    def last(self) -> Bridge | None:
        """Return the last bridge to a source under which no bits differed: the next comparison starts from it."""
        broken = {(bridge.before, bridge.after) for bridge in self.entries if bridge.differing}
        whole = (bridge for bridge in reversed(self.entries) if (bridge.before, bridge.after) not in broken)
        return next(whole, None)


def ground_of(record: Record) -> Ground:
    """Return the ground that a record is on."""
    made, how = record.experiment, record.effective
    names = {made.student, *([made.teacher.model] if made.teacher else [])}
    computed = [how.device.partition(":")[0], how.step or "eager", how.precision or "fp32"]
    computed += [f"{how.processes} processes"] if how.processes > 1 else []
    return made.task, "+".join(made.method), "+".join(sorted({_family(name) for name in names})), ", ".join(computed)


def _family(name: str) -> str:
    """Return the file of a network, such as `cifar/resnet`; of a library's or an unknown network its own name."""
    try:
        entry = model(name)
    except UsageError:
        return name
    place = ROOT / "benchmark" / "models"
    own = entry.path.is_relative_to(place) and ":" not in entry.name
    return entry.path.relative_to(place).with_suffix("").as_posix() if own else entry.name


def read_bridges(path: Path = BRIDGES) -> Bridges:
    """Read a file of bridges. A file that does not exist has none.

    Raises:
        UsageError: the file cannot be read, or is not one of bridges.
    """
    try:
        return Bridges(_FILE.validate_json(path.read_bytes()))
    except FileNotFoundError:
        return Bridges()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "make it readable") from error
    except ValidationError as error:
        first = error.errors()[0]
        why = f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
        raise UsageError(f"{path}: {why}", f"git checkout {path.name} brings back the committed file") from error


def write_bridges(bridges: Iterable[Bridge], path: Path = BRIDGES) -> None:
    """Write a file of bridges, one a line, the earliest first."""
    ordered = sorted(bridges, key=lambda bridge: bridge.finished)
    lines = ",\n".join(json.dumps(bridge.model_dump(mode="json", exclude_defaults=True)) for bridge in ordered)
    write_text(path, f"[\n{lines}\n]\n")
