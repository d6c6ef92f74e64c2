"""A simulation of how often the verdict rules are right and wrong. It makes the tables of docs/verdicts.md.

    python docs/simulate_verdicts.py            print the tables
    python docs/simulate_verdicts.py --write    put them into docs/verdicts.md

Every draw goes through `benchmark.judge.rule_chain.judge` itself, so the tables describe the program and not a copy of
its rules. Seeded.
"""

from __future__ import annotations

import argparse
import itertools
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.judge import stats
from benchmark.judge.rule_chain import judge, judge_gain
from benchmark.judge.samples import Published, PublishedGain, Sample
from benchmark.judge.verdicts import Verdict
from benchmark.paper.rules import load_rules
from benchmark.report.markdown_table import markdown_table

DOC = Path(__file__).with_name("verdicts.md")
SEED = 2305_15712
TRUTH = 75.0  # expected accuracy of the published experiment; only differences from it matter
SIZES = (3, 5, 10)
SPREADS = (0.1, 0.2, 0.3)
GAPS = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)
SHOWN = (Verdict.REPRODUCED, Verdict.BELOW, Verdict.ABOVE, Verdict.CONSISTENT, Verdict.INCONCLUSIVE)
DKD_RUNS = (76.20, 75.80, 75.89, 75.85, 76.15)
DKD_PAPER = 76.32


@dataclass(frozen=True)
class Case:
    """A simulated situation: n of our runs, which are truly worse by `worse`, and a published number."""

    n: int
    spread: float
    worse: float
    published_runs: int | None = 1  # runs whose mean is printed; None: the true value is printed
    stated_runs: int | None = None  # number of these runs that the source states, which the rules use as m
    best_of: int = 1  # number of runs of which the source printed the best
    data: str = "cifar100"
    metric: str = "top1"
    digits: int = 2


@dataclass(frozen=True)
class Shares:
    """The share of each verdict, and how often the published value was inside the prediction interval."""

    of: dict[Verdict, float]
    inside: float


def shares(case: Case, draws: int, seed: int) -> Shares:
    """Simulate a case and judge it by the rules."""
    rng = np.random.default_rng(seed)
    rules = load_rules()
    values = np.round(rng.normal(TRUTH - case.worse, case.spread, (draws, case.n)), 2)
    if case.published_runs is None:
        printed = np.full(draws, TRUTH)
    else:
        printed = rng.normal(TRUTH, case.spread, (draws, case.published_runs, case.best_of)).max(axis=2).mean(axis=1)
    counts: Counter[Verdict] = Counter()
    inside = 0
    for row, number in zip(values.tolist(), np.round(printed, case.digits).tolist(), strict=True):
        published = Published(round(number, case.digits), case.digits, case.data, case.metric, runs=case.stated_runs)
        judgement = judge(published, Sample(tuple(row)), rules)
        counts[judgement.verdict] += 1
        assert judgement.gap is not None and judgement.prediction is not None  # at least three values were given
        inside += abs(judgement.gap) <= judgement.prediction
    return Shares({verdict: counts[verdict] / draws for verdict in SHOWN}, inside / draws)


def gain_shares(n: int, worse: float, correlation: float, draws: int, seed: int, spread: float = 0.2) -> Shares:
    """Simulate a gain of 1 point over a baseline: our runs correlated in pairs, the published gain from single runs."""
    rng = np.random.default_rng(seed)
    rules = load_rules()
    shared = rng.normal(0, spread * correlation**0.5, (draws, n))
    own = rng.normal(0, spread * (1 - correlation) ** 0.5, (2, draws, n))
    ours, base = np.round(TRUTH + 1 - worse + shared + own[0], 2), np.round(TRUTH + shared + own[1], 2)
    theirs = np.round(rng.normal((TRUTH + 1, TRUTH), spread, (draws, 2)), 2)
    counts: Counter[Verdict] = Counter()
    for row, base_row, (top, bottom) in zip(ours.tolist(), base.tolist(), theirs.tolist(), strict=True):
        published = PublishedGain(round(top - bottom, 2), 0.01, "cifar100", "top1")
        counts[judge_gain(published, Sample(tuple(row)), Sample(tuple(base_row)), rules).verdict] += 1
    return Shares({verdict: counts[verdict] / draws for verdict in SHOWN}, float("nan"))


def main_cases() -> list[Case]:
    """Return the cases of the main table, in its order."""
    return [Case(n, spread, gap) for n, spread, gap in itertools.product(SIZES, SPREADS, GAPS)]


def percent(share: float) -> str:
    """Format a share as the tables print it."""
    return f"{100 * share:.0f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Format a table of numbers."""
    return markdown_table(head, rows, rule="---:")


def main_table(draws: int = 4000) -> str:
    """Return a table of every verdict's share by n, spread and true gap."""
    rows = []
    for index, case in enumerate(main_cases()):
        found = shares(case, draws, SEED + index)
        cells = [percent(found.of[verdict]) for verdict in SHOWN]
        rows.append([str(case.n), f"{case.spread:.1f}", f"{case.worse:.1f}", *cells, percent(found.inside)])
    return table(["n", "spread", "truly worse by", *SHOWN, "interval alone would pass"], rows)


def exact_table(draws: int = 2000) -> str:
    """Return a table of the share of `reproduced` if the printed number has no error."""
    rows = []
    for index, (n, spread) in enumerate(itertools.product(SIZES, SPREADS)):
        found = [shares(Case(n, spread, gap, None), draws, SEED + 100 + index) for gap in GAPS]
        rows.append([str(n), f"{spread:.1f}", *(percent(share.of[Verdict.REPRODUCED]) for share in found)])
    return table(["n", "spread", *(f"worse by {gap:.1f}" for gap in GAPS)], rows)


def scales_table(draws: int = 1000) -> str:
    """Return a table of the verdicts on a truly equal experiment, on each scale at its typical spread."""
    rows = []
    digits = {"coco2017": 1}
    for index, scale in enumerate(load_rules().scales):
        name, spread = f"{scale.data} {' '.join(scale.metrics)}", scale.typical_spread.value
        for n in (*SIZES, 20):
            settings = {"data": scale.data, "metric": scale.metrics[0], "digits": digits.get(scale.data, 2)}
            one = shares(Case(n, spread, 0.0, **settings), draws, SEED + 200 + index)  # type: ignore[arg-type]
            exact = shares(Case(n, spread, 0.0, None, **settings), draws, SEED + 300 + index)  # type: ignore[arg-type]
            settled = [one.of[verdict] for verdict in (Verdict.REPRODUCED, Verdict.CONSISTENT, Verdict.INCONCLUSIVE)]
            cells = [f"{scale.margin.value:.1f}", f"{spread:.3g}", str(n), *map(percent, settled)]
            rows.append([name, *cells, percent(exact.of[Verdict.REPRODUCED])])
    head = ["scale", "margin", "spread", "n", "reproduced", "consistent", "inconclusive", "reproduced, number exact"]
    return table(head, rows)


def runs_table(draws: int = 2000) -> str:
    """Return a table on a published mean of five runs, when the rules know that number and when they do not."""
    rows = []
    for index, (n, gap) in enumerate(itertools.product(SIZES, (0.0, 0.3, 0.5))):
        found = [shares(Case(n, 0.2, gap, 5, stated), draws, SEED + 400 + index) for stated in (None, 5)]
        cells = [percent(share.of[verdict]) for share in found for verdict in (Verdict.REPRODUCED, Verdict.BELOW)]
        rows.append([str(n), f"{gap:.1f}", *cells])
    head = ["n", "truly worse by", "reproduced, m unknown", "below, m unknown", "reproduced, m = 5", "below, m = 5"]
    return table(head, rows)


def best_table(draws: int = 2000) -> str:
    """Return a table of the verdicts on an equal re-run if the source printed the best of several runs."""
    rows = []
    for index, (n, best_of) in enumerate(itertools.product(SIZES, (1, 3, 5))):
        found = shares(Case(n, 0.2, 0.0, best_of=best_of), draws, SEED + 500 + index)
        rows.append([str(n), str(best_of), *(percent(found.of[verdict]) for verdict in SHOWN)])
    return table(["n", "printed is best of", *SHOWN], rows)


def gains_table(draws: int = 800) -> str:
    """Return a table of verdicts on gains, with and without correlation by common seeds."""
    rows = []
    for index, (n, correlation, worse) in enumerate(itertools.product(SIZES, (0.0, 0.7), (0.0, 0.5, 1.0))):
        found = gain_shares(n, worse, correlation, draws, SEED + 600 + index)
        cells = [percent(found.of[verdict]) for verdict in SHOWN]
        rows.append([str(n), f"{correlation:.1f}", f"{worse:.1f}", *cells])
    return table(["n", "correlation", "gain smaller by", *SHOWN], rows)


def smallest_table() -> str:
    """Compute the smallest gap that n runs would flag in four cases of five. Not simulated."""
    power = load_rules().levels.power.value
    rows = []
    for n, spread in itertools.product(SIZES, SPREADS):
        cells = []
        for runs in (1, 5):
            error = spread * (1 / n + 1 / runs) ** 0.5
            cells.append(f"{stats.smallest_detectable_gap(error, n - 1, 0.005, power=power):.2f}")
        rows.append([str(n), f"{spread:.1f}", *cells])
    return table(["n", "spread", "published is one run", "published is a mean of five"], rows)


def orders_table() -> str:
    """Compute how large a paired difference must be to pass Holm's test, in spreads of the differences."""
    rows = []
    for tested in (1, 7, 48):
        needed = [stats.t_quantile(1 - 0.05 / tested, n - 1) / n**0.5 for n in SIZES]
        rows.append([str(tested), *(f"{factor:.1f}" for factor in needed)])
    return table(["orderings tested", *(f"n = {n}" for n in SIZES)], rows)


def worked_case() -> str:
    """Return a worked example with every number: DKD, resnet32x4 to resnet8x4."""
    lines = []
    runs = Sample(DKD_RUNS, declared=5)
    spread = stats.spread(DKD_RUNS)
    lines.append(f"- runs: {', '.join(f'{value:.2f}' for value in DKD_RUNS)}; published {DKD_PAPER:.2f}")
    lines.append(f"- mean {np.mean(DKD_RUNS):.3f}, spread s = {spread:.3f}, n = 5")
    for stated in (None, 5):
        published = Published(DKD_PAPER, 2, "cifar100", "top1", runs=stated)
        found = judge(published, runs, load_rules())
        assert found.gap is not None and found.interval is not None and found.smallest_gap_seen is not None
        lines.append(
            f"- {'runs behind the published number unknown, so m = 1' if stated is None else 'with m = 5'}: "
            f"gap {found.gap:+.3f}, 90 % interval {found.interval.low:+.3f} to {found.interval.high:+.3f}, "
            f"prediction interval ±{found.prediction:.3f}, smallest gap seen {found.smallest_gap_seen:.2f}: "
            f"**{found.verdict}**"
        )
    return "\n".join(lines)


COMPUTED: dict[str, Callable[[], str]] = {
    "worked case": worked_case,
    "smallest gap": smallest_table,
    "orderings": orders_table,
}
SIMULATED: dict[str, Callable[[], str]] = {
    "main": main_table,
    "exact": exact_table,
    "scales": scales_table,
    "runs": runs_table,
    "best": best_table,
    "gains": gains_table,
}


def block(name: str, text: str) -> str:
    """Return the table between a document's markers."""
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- end -->", text, re.DOTALL)
    if found is None:
        raise SystemExit(f"{DOC} has no block '{name}'")
    return found[1].strip()


def with_block(name: str, made: str, text: str) -> str:
    """Return the document with one table replaced."""
    return text.replace(block(name, text), made, 1)


def main() -> None:
    """Print the tables, or write them into the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/verdicts.md")
    write = parser.parse_args().write
    text = DOC.read_text(encoding="utf-8")
    for name, make in (COMPUTED | SIMULATED).items():
        made = make()
        text = with_block(name, made, text)
        if not write:
            print(f"{name}\n{made}\n")
    if write:
        DOC.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
