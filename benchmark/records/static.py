"""Published costs as verified without training, read back from results/static.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.errors import StorageError
from benchmark.machine.shipped import RESULTS
from benchmark.paper.claims import Outcome

STATIC = RESULTS / "static.json"

STATIC_VERSION = 1  # of the file's layout


@dataclass(frozen=True)
class StaticCell:
    """One published cost and the count that it is compared with."""

    cell: str
    printed: str
    metric: str
    about: str  # the network, or the method and its pair
    verdict: str
    reason: str
    convention: str = ""
    value: float | None = None  # under that convention, in the unit of the cell
    true: float | None = None  # the count without a convention's mistakes or omissions
    true_counts: str = ""  # what is in it
    tried: Mapping[str, float] = field(default_factory=dict)  # by convention


@dataclass(frozen=True)
class CostClaim:
    """A sentence about cost, by its id in suites/claims.yaml."""

    id: str
    outcome: Outcome
    sentence: str


@dataclass(frozen=True)
class StaticFile:
    """The part of the file that the report reads: costs by cell, and claims by id."""

    cells: Mapping[str, StaticCell]
    claims: Mapping[str, CostClaim]


def read_static(path: Path = STATIC) -> StaticFile:
    """Read the committed results, for the report.

    Raises:
        StorageError: there are none, they have another layout, or an entry is not as it should be.
    """
    refresh = "python -m benchmark verify writes it"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"cannot read {path}: {error}", refresh) from error
    try:
        if found.get("version") != STATIC_VERSION:
            raise StorageError(f"{path} has layout {found.get('version')}, not {STATIC_VERSION}", refresh)
        cells = {name: StaticCell(cell=name, **entry) for name, entry in found["cells"].items()}
        claims = {name: CostClaim(id=name, **entry) for name, entry in found.get("claims", {}).items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"{path} cannot be used: {error}", refresh) from error
    return StaticFile(cells, claims)
