"""Show what others got for a published number: comparable runs are judged by the rules for runs, the rest is listed."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.judge import stats
from benchmark.judge.rule_chain import judge
from benchmark.judge.samples import Published, Sample
from benchmark.judge.verdicts import Judgement, Verdict
from benchmark.paper.readings import Rerun
from benchmark.paper.rules import Rules

SHOWN = "shown"  # the word for a re-run that is not judged


@dataclass(frozen=True)
class OthersRerun:
    """A re-run of a cell by others. It is never part of our mean."""

    printed: str  # 71.80±0.11 of single runs, or as its text prints it
    value: float
    std: float | None
    digits: int
    runs: int | None  # None if not known
    values: tuple[float, ...]  # of the single runs, if they are known
    comparable: bool
    protocol: str
    source: str
    where: str
    gap: float | None  # theirs minus published
    judgement: Judgement | None  # of comparable single runs

    @property
    def verdict(self) -> Verdict | None:
        """Return the verdict, or None if it has none."""
        return self.judgement.verdict if self.judgement else None

    @property
    def word(self) -> str:
        """Return the verdict's word, or `shown`."""
        return str(self.verdict or SHOWN)


def judged_rerun(rerun: Rerun, printed: float, published: Published | None, rules: Rules) -> OthersRerun:
    """Return a re-run by others with its verdict on the published number, if it can have one.

    The rules need single runs: a mean of unknown runs has no verdict. `published` is None if no rule has its scale.
    """
    first, *more = rerun.printed
    number, _, spread = first.partition("±")
    digits = len(number.partition(".")[2])
    value, std = float(number), float(spread) if spread else None
    values = tuple(map(float, rerun.printed)) if rerun.runs == len(rerun.printed) and std is None else ()
    if more:
        value, std = round(stats.mean(values), digits), stats.spread(values)
        first = f"{value:.{digits}f}±{std:.{digits}f}"
    judgement = None
    if rerun.comparable and values and published is not None:
        judgement = judge(published, Sample(values), rules)
    return OthersRerun(
        printed=first,
        value=value,
        std=std,
        digits=digits,
        runs=rerun.runs,
        values=values,
        comparable=rerun.comparable,
        protocol=rerun.protocol,
        source=rerun.source,
        where=rerun.where,
        gap=value - printed,
        judgement=judgement,
    )
