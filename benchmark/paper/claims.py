"""Claims: sentences of the paper, its poster, a review and the KDiffusion slides, as checks over cells.

A claim in suites/claims.yaml quotes a sentence and gives an expression over cells, in the language of
`benchmark.paper.expression`. Evaluated with the published numbers, it shows if the sentence follows from the text's own
tables. Evaluated with measured numbers, it shows if the sentence holds in our runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, Field, ValidationError

from benchmark.errors import nearest
from benchmark.machine.shipped import SUITES
from benchmark.paper.board import Board, Lookup, published
from benchmark.paper.expression import Evaluator
from benchmark.paper.manifest import load_all
from benchmark.paper.quantities import ExpressionError, Quantity, Truth, as_printed
from benchmark.paper.suite import Cell
from benchmark.paper.yamlfile import Place, Strict, YamlFile

CLAIMS = SUITES / "claims.yaml"

Text = Literal["paper", "poster", "page", "review", "slides"]
Kind = Literal[
    "difference",  # a stated difference of two numbers
    "ordering",  # this is better than that, everywhere or mostly
    "comparison",  # a difference or an ordering whose two sides differ in more than the sentence says
    "size",  # a stated factor, or words such as "much larger" and "comparable"
    "consistency",  # one fact that is stated twice
    "copied",  # a number that is said to come from another source
    "reference",  # a sentence points to something, which must exist
    "observation",  # only a measurement can show it
]
Outcome = Literal[
    "holds",  # as `check` reads it
    "depends on the reading",  # not as `check` reads it, but as another reading does
    "does not follow",  # in no reading
    "cannot be checked",  # a number is missing that could decide
]


class Stated(Strict):
    """A number that is in no table: in the prose, or in another publication."""

    value: str = Field(pattern=r"^[+-]?\d+(\.\d+)?$", description="as printed, in quotes, so that it keeps its digits")
    source: str = Field(description="where it is stated")
    text: Text | None = Field(None, description="the text that states it; without it, another publication states it")
    quote: str | None = Field(None, description="the words that state it, verbatim")


class Claim(Strict):
    """One checkable sentence."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    text: Text
    where: str = Field(description="section, caption or heading")
    quote: str = Field(description="the sentence, verbatim except for line breaks")
    kind: Kind
    check: str | None = Field(None, description="what the sentence says, as an expression over cells")
    reading: str = Field("", description="how `check` understands the sentence, if it has several meanings")
    otherwise: dict[str, str] = Field({}, description="expressions of other meanings, by name")
    why: str = Field("", description="why the sentence cannot be checked, if there is no expression")
    note: str = Field("", description="what a reader should know about the answer")


class ClaimsFile(Strict):
    """The content of suites/claims.yaml as written."""

    names: dict[str, tuple[str, ...]] = Field({}, description="lists of names that checks may loop over")
    numbers: dict[str, Stated] = {}
    claims: list[Claim] = Field(min_length=1)


@dataclass(frozen=True)
class Claims:
    """The checked claims with the cells that they are about."""

    file: ClaimsFile
    path: Path
    board: Board


@dataclass(frozen=True)
class Reading:
    """Another reading of a claim, with its outcome."""

    name: str
    outcome: Outcome
    text: str


@dataclass(frozen=True)
class ClaimResult:
    """The result of checking a claim.

    `claimed` and `computed` are the two numbers that are compared; for a claim about many cells, the number of cells
    that should agree and the number that do. `close` is True if the rounding of printed numbers, or the spread of
    measured ones, could explain why the claim fails.
    """

    claim: Claim
    outcome: Outcome
    claimed: Quantity | None
    computed: Quantity | None
    sentence: str
    exceptions: tuple[str, ...] = ()
    close: bool = False
    readings: tuple[Reading, ...] = ()
    cells: tuple[str, ...] = ()  # ids of all cells whose numbers the answer uses


def load_claims(path: Path = CLAIMS, cells: Iterable[Cell] | None = None) -> Claims:
    """Read the claims, and check every name that they use.

    Raises:
        UsageError: the file has mistakes. The error lists all, each with its line and the nearest valid name.
    """
    board = Board(cells if cells is not None else (cell for suite in load_all() for cell in suite.cells))
    file = YamlFile(path)
    try:
        parsed = ClaimsFile.model_validate(file.data)
    except ValidationError as error:
        for problem in error.errors():
            file.complain(
                file.written(problem["loc"]), _schema_message(problem["loc"], problem["type"], problem["msg"])
            )
        file.check("see the other claims of the file")
        raise
    claims = Claims(parsed, path, board)
    seen: set[str] = set()
    for index, claim in enumerate(parsed.claims):
        place: Place = ("claims", index)
        if claim.id in seen:
            file.complain((*place, "id"), f"two claims have the id {claim.id!r}")
        seen.add(claim.id)
        if (claim.check is None) == (not claim.why):
            file.complain(place, f"{claim.id}: give either `check`, or `why` with the reason for having none")
        _try_expressions(claims, claim, file, place)
    file.check("a check names cells as cell(table, row, column, group=); python -m benchmark list cells prints them")
    return claims


_PARTS: dict[str, type[BaseModel]] = {"claims": Claim, "numbers": Stated}


def _schema_message(place: tuple[int | str, ...], kind: str, message: str) -> str:
    key = str(place[-1]) if place else "the file"
    if kind == "extra_forbidden":
        return f"unknown key {key!r}; {nearest(key, _PARTS.get(str(place[0]), ClaimsFile).model_fields)}"
    return f"{'.'.join(map(str, place)) or key}: {message.lower()}"


def _try_expressions(claims: Claims, claim: Claim, file: YamlFile, place: Place) -> None:
    sources = [((*place, "check"), claim.check)] if claim.check else []
    sources += [((*place, "otherwise", name), source) for name, source in claim.otherwise.items()]
    for where, source in sources:
        try:
            _evaluator(claims, published).truth(source)
        except ExpressionError as error:
            file.complain(where, f"{claim.id}: {error}")


def _evaluator(claims: Claims, lookup: Lookup) -> Evaluator:
    numbers = {name: as_printed(stated.value) for name, stated in claims.file.numbers.items()}
    return Evaluator(claims.board, lookup, numbers, claims.file.names)


def check_claims(claims: Claims, lookup: Lookup = published) -> list[ClaimResult]:
    """Check every claim against the numbers that the lookup gives. A claim that lacks a number cannot be checked."""
    return [_check(claims, claim, lookup) for claim in claims.file.claims]


def tally(results: Sequence[ClaimResult]) -> dict[Outcome, int]:
    """Count the claims of each outcome."""
    found = Counter(result.outcome for result in results)
    return {outcome: found[outcome] for outcome in get_args(Outcome)}


def _check(claims: Claims, claim: Claim, lookup: Lookup) -> ClaimResult:
    if claim.check is None:
        return ClaimResult(claim, "cannot be checked", None, None, claim.why)
    evaluator = _evaluator(claims, lookup)
    truth = _answer(evaluator, claim.check)
    cells = tuple(evaluator.read)
    readings = []
    for name, source in claim.otherwise.items():
        other = _answer(evaluator, source)
        readings.append(Reading(name, _outcome(other), _sentence(other)))
    outcome = _over_readings(_outcome(truth), [other.outcome for other in readings])
    undecided = outcome == "cannot be checked" and truth.holds is False
    waiting = ", ".join(other.name for other in readings if other.outcome == "cannot be checked")
    open_ones = f"; not answered yet: {waiting}" if undecided else ""
    return ClaimResult(
        claim=claim,
        outcome=outcome,
        claimed=truth.claimed,
        computed=None if truth.holds is None else truth.computed,
        sentence=f"{_sentence(truth)}{open_ones}",
        exceptions=truth.exceptions,
        close=truth.close,
        readings=tuple(readings),
        cells=cells,
    )


def _answer(evaluator: Evaluator, source: str) -> Truth:
    try:
        return evaluator.truth(source)
    except ExpressionError as error:
        # Names were checked when the file was read, so the error comes from the numbers: a division by zero.
        return Truth(None, text=str(error))


def _outcome(truth: Truth) -> Outcome:
    return "cannot be checked" if truth.holds is None else "holds" if truth.holds else "does not follow"


def _over_readings(literal: Outcome, others: Sequence[Outcome]) -> Outcome:
    """Return a claim's outcome: a sentence that fails as `check` reads it may still be true as others read it."""
    if literal != "does not follow":
        return literal
    better: tuple[Outcome, ...] = ("holds", "cannot be checked")
    found = next((outcome for outcome in better if outcome in others), literal)
    return "depends on the reading" if found == "holds" else found


def _sentence(truth: Truth) -> str:
    if truth.holds is None:
        if not truth.missing:
            return truth.text
        named = sorted(truth.missing)
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        return f"no number for {', '.join(named[:3])}{more}"
    excuse = "; rounding or spread alone could account for it" if truth.close else ""
    return f"{truth.text}{excuse}"
