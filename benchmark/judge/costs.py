"""The results of `python -m benchmark verify`, found without training: rule 1, and claims about cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmark.errors import StorageError
from benchmark.judge.rule_chain import judge_static
from benchmark.judge.verdicts import Judgement, Verdict
from benchmark.judge.views import ClaimAnswer
from benchmark.paper.suite import Cell
from benchmark.records.evidence import InputProblem, ProblemKind
from benchmark.records.static import STATIC, CostClaim, StaticCell, read_static

COMMAND = "python -m benchmark verify"


@dataclass(frozen=True)
class StaticResults:
    """The verified costs by cell id, and the answers by claim id."""

    cells: Mapping[str, StaticCell] = field(default_factory=dict)
    claims: Mapping[str, ClaimAnswer] = field(default_factory=dict)
    problems: tuple[InputProblem, ...] = ()

    def judge(self, cell: Cell) -> tuple[Judgement, float | None, str]:
        """Return the verdict on a printed cost, our cost under the deciding convention (or None), and a note."""
        found = self.cells.get(cell.id)
        if found is None:
            return Judgement(Verdict.NOT_RUN, COMMAND, 0), None, ""
        if found.printed != cell.printed:
            changed = f"{found.printed} was verified, the manifest has {cell.printed}: {COMMAND}"
            return Judgement(Verdict.NOT_RUN, changed, 0), None, ""
        if found.value is None:
            return Judgement(Verdict.parse(found.verdict), found.reason, 0), None, ""
        # The file says which convention decides, and why; the verdict follows from the two numbers.
        judgement = judge_static(found.printed, {found.convention: found.value})
        note = "" if found.true is None else f"counted in full: {found.true:g} ({found.true_counts})"
        return replace(judgement, reason=found.reason), found.value, note


def load_static(folders: Sequence[Path]) -> StaticResults:
    """Load the first static.json in these folders, or else the one that comes with the program."""
    problems: list[InputProblem] = []
    for path in (*(folder / STATIC.name for folder in folders), STATIC):
        if path.is_file():
            try:
                found = read_static(path)
            except StorageError as error:
                said = f"{error.message}; {COMMAND} writes it again"
                problems.append(InputProblem(ProblemKind.STATIC, str(path), said))
            else:
                answers = {claim.id: _answer(claim) for claim in found.claims.values()}
                return StaticResults(found.cells, answers, tuple(problems))
    return StaticResults(problems=tuple(problems))


def _answer(claim: CostClaim) -> ClaimAnswer:
    return ClaimAnswer(claim.outcome, "", "", claim.sentence, (), False, ())
