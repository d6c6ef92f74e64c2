"""The findings of verification as plain data: printed, committed as results/static.json, read by the report."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import TypeAdapter

from benchmark.records.static import STATIC_VERSION, CostClaim, StaticCell

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class NetworkCost:
    """The cost of one network of the suites."""

    model: str
    data: str
    input: str
    params: int
    macs: int
    cirkd: int
    fvcore: int | None = None  # None where it was not run


@dataclass(frozen=True)
class DetectorCost:
    """The cost of one of mmdet's detectors on one image."""

    model: str
    input: str
    params: int
    macs: int  # backbone, pyramid and dense head
    second_stage: int  # multiply-adds of a two-stage detector's box heads, on all their proposals


@dataclass(frozen=True)
class SideCost:
    """The cost that a method adds to training one pair, per image."""

    method: str
    params: int
    forward: int
    backward: int


@dataclass(frozen=True)
class Export:
    """One method's exported student, compared with the plain student."""

    method: str
    params_equal: bool
    macs_equal: bool
    output_equal: bool

    @property
    def equal(self) -> bool:
        """Return True if parameters, multiply-adds and output are equal."""
        return self.params_equal and self.macs_equal and self.output_equal


@dataclass
class SourcesHeld:
    """How the settings of suites and recipes stand to the facts of their sources."""

    facts: int = 0
    held: int = 0  # settings with the value of a fact
    differing: int = 0  # settings with another value than a fact's, for the reason that it gives
    unsourced: int = 0  # settings that no source states, for a stated reason
    uncovered: list[str] = field(default_factory=list)  # settings with neither fact nor reason
    unsettable: list[str] = field(default_factory=list)  # facts that no setting of ours has
    problems: list[str] = field(default_factory=list)

    def counts(self) -> str:
        """Format the numbers as one sentence."""
        covered = self.held + self.differing + self.unsourced
        return (
            f"{covered} of {covered + len(self.uncovered)} settings covered by {self.facts} facts and stated reasons: "
            f"{self.held} as their source, {self.differing} differ for a reason, {self.unsourced} have no source; "
            f"{len(self.unsettable)} facts have no setting; {len(self.problems)} contradictions"
        )


Built = Literal["built", "cannot serve", "failed"]


@dataclass(frozen=True)
class PairBuilt:
    """One student, teacher and method of the suites, built and run on tensors without memory."""

    pair: str
    data: str
    method: str
    cells: int
    outcome: Built
    reason: str = ""


@dataclass(frozen=True)
class Unchecked:
    """One thing that was not checked, and the reason."""

    what: str
    why: str


@dataclass
class Findings:
    """All results of verification. `problems` make the command fail; `unchecked` lists the things not checked."""

    cells: list[StaticCell] = field(default_factory=list)
    networks: list[NetworkCost] = field(default_factory=list)
    detectors: list[DetectorCost] = field(default_factory=list)
    side: list[SideCost] = field(default_factory=list)
    side_pair: str = ""
    exports: list[Export] = field(default_factory=list)
    claims: list[CostClaim] = field(default_factory=list)
    pairs: list[PairBuilt] = field(default_factory=list)
    sources: SourcesHeld = field(default_factory=SourcesHeld)
    conventions: dict[str, dict[str, str]] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)  # the convention that fits all cells of a table best
    experiments: int = 0
    problems: list[str] = field(default_factory=list)
    unchecked: list[Unchecked] = field(default_factory=list)

    def skip(self, what: str, why: str) -> None:
        """Note that something could not be checked. Repeated notes are kept once."""
        if Unchecked(what, why) not in self.unchecked:
            self.unchecked.append(Unchecked(what, why))

    def as_json(self) -> dict[str, object]:
        """Return all findings as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Findings:
        """Build the findings from the data that `as_json` returned.

        Raises:
            ValueError: the data have another form, such as those of an earlier version.
        """
        return TypeAdapter(cls).validate_python(data)

    def static(self) -> dict[str, object]:
        """Return the part that is committed. Nothing in it depends on the machine or on optional packages."""
        networks = {n.model: {"data": n.data, **_without(n, "model", "data", "fvcore")} for n in self.networks}
        return {
            "version": STATIC_VERSION,
            "conventions": self.conventions,
            "tables": self.tables,
            "cells": {c.cell: _without(c, "cell") for c in self.cells},
            "networks": networks,
            "side_networks": {"pair": self.side_pair, **{s.method: _without(s, "method") for s in self.side}},
            "exports": {e.method: e.equal for e in self.exports},
            "claims": {c.id: _without(c, "id") for c in self.claims},
        }


def _without(entry: DataclassInstance, *names: str) -> dict[str, object]:
    return {name: value for name, value in asdict(entry).items() if name not in names and value not in (None, "", {})}


def static_text(findings: Findings) -> str:
    """Return the text of the committed file."""
    return json.dumps(findings.static(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
