"""Say if a cited number is what its source prints, from readings of the number in other texts.

The source's own text (primary) decides where one was read, else all texts that copy, derive or compute the number.
Another run or checkpoint (other-variant) is shown and never decides. docs/verdicts.md says what each word means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from benchmark.judge.verdicts import Severity
from benchmark.paper.readings import Reading


class SourceWord(StrEnum):
    """The outcome for a cited number. The value is the word that is printed."""

    AS_IN_SOURCE = "as in its source"
    DIFFERENT_SETTING = "different setting"
    DISAGREE = "sources disagree"
    MISCOPIED = "miscopied"
    NOT_FOUND = "source not found"

    @property
    def severity(self) -> Severity:
        """Return the word's colour group."""
        if self is SourceWord.AS_IN_SOURCE:
            return Severity.GOOD
        return Severity.BAD if self is SourceWord.MISCOPIED else Severity.NEUTRAL

    @property
    def meaning(self) -> str:
        """Return the one-line explanation for a legend."""
        return _MEANINGS[self]


_MEANINGS = {
    SourceWord.AS_IN_SOURCE: "the texts that decide print the same number",
    SourceWord.DIFFERENT_SETTING: "they print the same number, for another protocol than the table's",
    SourceWord.DISAGREE: "some of the texts that decide print the number, and some another one",
    SourceWord.MISCOPIED: "the texts that decide print another number",
    SourceWord.NOT_FOUND: "the number was looked for, and no text that could decide has it",
}


@dataclass(frozen=True)
class SourceCheck:
    """How a cited number stands to its source, with everything that was read of it."""

    word: SourceWord
    reason: str
    readings: tuple[Reading, ...]


def check_source(printed: str, readings: Sequence[Reading]) -> SourceCheck:
    """Return how a number, as the table prints it, stands to these readings of it."""
    primary = [reading for reading in readings if reading.kind == "primary"]
    deciding = primary or [reading for reading in readings if reading.kind != "other-variant"]
    same = [reading for reading in deciding if agrees(printed, reading.printed)]
    other = [reading for reading in deciding if reading not in same]
    if not deciding:
        variants = f"; of another run or baseline: {_said(readings)}" if readings else ""
        return SourceCheck(SourceWord.NOT_FOUND, f"no text that was read has this number{variants}", tuple(readings))
    setting = next((reading.setting for reading in same if reading.setting), "")
    said = _said(deciding)
    if same and other:
        word, said = SourceWord.DISAGREE, f"{len(same)} of {len(deciding)} readings are as printed here: {said}"
    elif other:
        copies = [r for r in readings if r.kind == "secondary" and agrees(printed, r.printed)]
        word, said = SourceWord.MISCOPIED, f"{printed} here, but {said}"
        said += f"; copies have it as printed here: {_said(copies)}" if copies else ""
    elif setting:
        word, said = SourceWord.DIFFERENT_SETTING, f"{said}, but of {setting}"
    else:
        word = SourceWord.AS_IN_SOURCE
    own = "" if primary else "; the source's own text was not read"
    return SourceCheck(word, said + own, tuple(readings))


def agrees(here: str, there: str) -> bool:
    """Return True if a number rounds to the printed digits of the table. A tie may have been rounded either way.

    Standard deviations are compared only if both texts print one.
    """
    pairs = zip(here.split("±"), there.split("±"), strict=False)
    return all(abs(Decimal(ours) - Decimal(theirs)) <= _half_digit(ours) for ours, theirs in pairs)


def _half_digit(printed: str) -> Decimal:
    return Decimal(1).scaleb(int(Decimal(printed).as_tuple().exponent)) / 2


def _said(readings: Iterable[Reading]) -> str:
    """Return each number with the texts that print it: `76.13 in A; 76.16 in B, C`."""
    found: dict[str, dict[str, None]] = {}
    for reading in readings:
        found.setdefault(reading.printed, {})[reading.source] = None
    return "; ".join(f"{number} in {', '.join(names)}" for number, names in found.items())
