"""Answer if the paper holds: count numbers by their evidence, and make three sentences from these counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from benchmark.judge.sources import SourceWord
from benchmark.judge.verdicts import Verdict
from benchmark.judge.views import KINDS, CellView, Counts, EvidenceKind, EvidenceSummary

AUTHORS, CITED = "authors", "cited"
_TESTS: Mapping[EvidenceKind, str] = {  # the kinds that do more than read
    EvidenceKind.RECOMPUTED: "by recomputing a cost",
    EvidenceKind.RUNS: "by runs",
    EvidenceKind.RERUNS: "by re-runs of others",
}
_SOURCES: Mapping[SourceWord, str] = {  # of those that are not as in their source
    SourceWord.MISCOPIED: "miscopied",
    SourceWord.DIFFERENT_SETTING: "of a different setting",
    SourceWord.DISAGREE: "where sources disagree",
    SourceWord.NOT_FOUND: "without a source that was found",
}
_OUTCOMES: Mapping[str, str] = {  # of a test; all other verdicts are unclear
    Verdict.EQUAL: "as printed",
    Verdict.REPRODUCED: "as printed",
    Verdict.CONSISTENT: "as printed",
    Verdict.DIFFERS: "not as printed",
    Verdict.BELOW: "lower than printed",
    Verdict.ABOVE: "higher than printed",
}


def evidence_summary(cells: Iterable[CellView]) -> EvidenceSummary:
    """Count the published numbers among cells by whose they are and by evidence, and say what that comes to."""
    published = [cell for cell in cells if cell.printed is not None]
    numbers = {standing: sum(cell.standing == standing for cell in published) for standing in (AUTHORS, CITED)}
    every = _counts((cell.standing, kind, cell.evidence.word(kind)) for cell in published for kind in KINDS)
    best = _counts((cell.standing, cell.evidence.best, _best_word(cell)) for cell in published)
    said = [_on_own(numbers[AUTHORS], best)] if numbers[AUTHORS] else []
    said += [_on_copied(numbers[CITED], every)] if numbers[CITED] else []
    said += [_on_all(len(published), best) if published else "None of these numbers is one that the paper prints."]
    return EvidenceSummary(numbers, every, best, tuple(said))


def _best_word(cell: CellView) -> str:
    words = map(cell.evidence.word, (cell.evidence.best, *KINDS))
    return next(filter(None, words), str(cell.evidence.best))


def _counts(found: Iterable[tuple[str, EvidenceKind, str]]) -> Counts:
    """Count words by standing and kind, kinds in their order and the most frequent word first."""
    counts = Counter(each for each in found if each[2])
    return {
        standing: {
            str(kind): words
            for kind in EvidenceKind
            if (
                words := {
                    word: n for (whose, what, word), n in counts.most_common() if (whose, what) == (standing, kind)
                }
            )
        }
        for standing in (AUTHORS, CITED)
    }


def _on_own(own: int, best: Counts) -> str:
    tests = {how: best[AUTHORS].get(kind, {}) for kind, how in _TESTS.items()}
    tested = sum(sum(words.values()) for words in tests.values())
    said = ", ".join(f"{sum(words.values())} {how} ({_words(words)})" for how, words in tests.items() if words)
    return (
        f"Of {_numbers(own)} of the authors' own, {_some(tested, 'was', 'were')} tested{f': {said}' if said else ''}."
    )


def _on_copied(copied: int, every: Counts) -> str:
    words = every[CITED].get(EvidenceKind.SOURCE, {})
    same = words.get(SourceWord.AS_IN_SOURCE, 0)
    parts = [f"{words[word]} {said}" for word, said in _SOURCES.items() if word in words]
    unread = copied - sum(words.values())
    parts += [f"{unread} not looked up"] if unread else []
    return (
        ", ".join((f"Of {_numbers(copied)} copied from others, {_some(same, 'is', 'are')} as in the source", *parts))
        + "."
    )


def _on_all(number: int, best: Counts) -> str:
    outcomes: Counter[str] = Counter()
    for kinds in best.values():
        for kind in _TESTS:
            for word, count in kinds.get(kind, {}).items():
                outcomes[_OUTCOMES.get(word, "unclear")] += count
    tested = outcomes.total()
    said = f": {', '.join(f'{count} {outcome}' for outcome, count in outcomes.most_common())}" if outcomes else ""
    rest = f"; {_some(number - tested, 'is', 'are')} open" if number > tested else ""
    return f"Of {_numbers(number)} in all, {_some(tested, 'was', 'were')} tested by more than reading{said}{rest}."


def _numbers(count: int) -> str:
    return f"{count} number" if count == 1 else f"{count} numbers"


def _some(count: int, one: str, many: str) -> str:
    """Return a count as a subject with its verb: `none was`, `1 was`, `2 were`."""
    return f"{count or 'none'} {one if count < 2 else many}"


def _words(words: Mapping[str, int]) -> str:
    return ", ".join(f"{word} {count}" for word, count in words.items())
