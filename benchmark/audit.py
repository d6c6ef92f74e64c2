"""The claims of the texts, checked against what is published and against what was achieved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from benchmark import statistics
from benchmark.claims import CLAIMS, ClaimResult, Claims, ClaimsFile, check_claims, load_claims
from benchmark.comparison import CellView, ClaimAnswer, ClaimView, Problem, ProblemKind
from benchmark.errors import UsageError
from benchmark.expression import Board, Quantity
from benchmark.manifest import Cell
from benchmark.rules import Rules
from benchmark.verdicts import BLOCKING, Verdict
from benchmark.yamlfile import YamlFile


def read_claims(cells: Iterable[Cell], path: Path = CLAIMS) -> tuple[Claims | None, list[Problem]]:
    """The claims. Those that cite what does not exist cannot be checked; they spoil none of the others."""
    listed = list(cells)
    try:
        return load_claims(path, listed), []
    except UsageError as error:
        problems = list(manifest_problems(path, error))
    try:
        return Claims(ClaimsFile.model_validate(YamlFile(path).data), path, Board(listed)), problems
    except (UsageError, ValidationError):
        return None, problems


def manifest_problems(path: Path, error: UsageError) -> Iterator[Problem]:
    """Each line of an error about a file, with its place apart."""
    for line in error.message.splitlines():
        number, colon, message = line.removeprefix(f"{path}:").partition(": ")
        placed = bool(colon) and number.isdigit()
        where, said = (f"{path}:{number}", message) if placed else (str(path), line)
        yield Problem(ProblemKind.MANIFEST, where, said)


def audit(
    claims: Claims, views: Iterable[CellView], verified: Mapping[str, ClaimAnswer], rules: Rules
) -> tuple[ClaimView, ...]:
    """Every claim by the published numbers and, where all that it needs is achieved, by ours.

    `verified`: claims about cost that were answered without any run.
    """
    published = check_claims(claims)
    numbers = {view.id: number for view in views if (number := achieved_number(view, rules)) is not None}
    ours: list[ClaimResult] = check_claims(claims, _lookup(numbers)) if numbers else []
    by_id = dict(verified) | {
        result.claim.id: _answer(result) for result in ours if result.outcome != "cannot be checked"
    }
    return tuple(_view(result, by_id.get(result.claim.id)) for result in published)


def _lookup(numbers: dict[str, Quantity]) -> Callable[[Cell], Quantity | None]:
    return lambda cell: numbers.get(cell.id)


def achieved_number(view: CellView, rules: Rules) -> Quantity | None:
    """A cell's own number with its uncertainty; None where the rules would not judge it.

    The uncertainty of a mean is half of its 90 % interval, that of a cost nothing.
    """
    if view.static:
        return None if view.measured is None else Quantity(view.measured)
    if view.achieved is None or view.achieved.mean is None or view.achieved.n < rules.least:
        return None
    if view.verdict in BLOCKING or view.verdict is Verdict.UNSTABLE:
        return None
    interval = statistics.mean_interval(view.achieved.values, rules.levels.equivalence.value)
    return Quantity(view.achieved.mean, spread=interval.half_width)


def _view(result: ClaimResult, achieved: ClaimAnswer | None) -> ClaimView:
    claim = result.claim
    return ClaimView(
        id=claim.id,
        text=claim.text,
        where=claim.where,
        quote=claim.quote,
        kind=claim.kind,
        reading=claim.reading,
        note=claim.note,
        cells=result.cells,
        published=_answer(result),
        achieved=achieved,
    )


def _answer(result: ClaimResult) -> ClaimAnswer:
    return ClaimAnswer(
        outcome=result.outcome,
        claimed="" if result.claimed is None else str(result.claimed),
        computed="" if result.computed is None else str(result.computed),
        sentence=result.sentence,
        exceptions=result.exceptions,
        close=result.close,
        readings=tuple((reading.name, reading.outcome, reading.text) for reading in result.readings),
    )
