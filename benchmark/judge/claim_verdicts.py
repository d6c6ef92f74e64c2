"""The claims of the texts, checked against published and achieved numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from benchmark.errors import UsageError
from benchmark.judge import stats
from benchmark.judge.verdicts import BLOCKING, Verdict
from benchmark.judge.views import CellView, ClaimAnswer, ClaimView
from benchmark.paper.board import Board
from benchmark.paper.claims import CLAIMS, ClaimResult, Claims, ClaimsFile, check_claims, load_claims
from benchmark.paper.quantities import Quantity
from benchmark.paper.rules import Rules
from benchmark.paper.suite import Cell
from benchmark.paper.yamlfile import YamlFile
from benchmark.records.evidence import InputProblem, ProblemKind


def read_claims(cells: Iterable[Cell], path: Path = CLAIMS) -> tuple[Claims | None, list[InputProblem]]:
    """Read the claims. Claims that cite missing cells cannot be checked; the others are unaffected."""
    listed = list(cells)
    try:
        return load_claims(path, listed), []
    except UsageError as error:
        problems = list(manifest_problems(path, error))
    try:
        return Claims(ClaimsFile.model_validate(YamlFile(path).data), path, Board(listed)), problems
    except (UsageError, ValidationError):
        return None, problems


def manifest_problems(path: Path, error: UsageError) -> Iterator[InputProblem]:
    """Yield each line of an error about a file as a problem, with its place."""
    for line in error.message.splitlines():
        number, colon, message = line.removeprefix(f"{path}:").partition(": ")
        placed = bool(colon) and number.isdigit()
        where, said = (f"{path}:{number}", message) if placed else (str(path), line)
        yield InputProblem(ProblemKind.MANIFEST, where, said)


def audit(
    claims: Claims, views: Iterable[CellView], verified: Mapping[str, ClaimAnswer], rules: Rules
) -> tuple[ClaimView, ...]:
    """Check every claim by the published numbers and, if all that it needs is achieved, by ours.

    `verified` holds the claims about cost that were answered without any run.
    """
    published = check_claims(claims)
    numbers = {view.id: number for view in views if (number := achieved_number(view, rules)) is not None}
    ours: list[ClaimResult] = check_claims(claims, _lookup(numbers)) if numbers else []
    by_id = dict(verified) | {result.claim.id: _answer(result) for result in ours if result.computed is not None}
    return tuple(_view(result, by_id.get(result.claim.id)) for result in published)


def _lookup(numbers: dict[str, Quantity]) -> Callable[[Cell], Quantity | None]:
    return lambda cell: numbers.get(cell.id)


def achieved_number(view: CellView, rules: Rules) -> Quantity | None:
    """Return a cell's own number with its uncertainty, or None if the rules would not judge it.

    The uncertainty of a mean is half of its 90 % interval; a cost has none.
    """
    if view.static:
        return None if view.measured is None else Quantity(view.measured)
    if view.achieved is None or view.achieved.mean is None or view.achieved.n < rules.least:
        return None
    if view.verdict in BLOCKING or view.verdict is Verdict.UNSTABLE:
        return None
    interval = stats.mean_interval(view.achieved.values, rules.levels.equivalence.value)
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
