"""The rules in their order: the first that holds gives the verdict on a published number.

Everything here is pure: callers read records and manifests; margins, floors and levels come from suites/rules.yaml.
docs/verdicts.md says in plain words what each verdict means and how often it is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation

from benchmark.errors import UsageError
from benchmark.judge import stats
from benchmark.judge.measures import MeasuredGap, assumed_spread, mean_difference, measure, measure_gain
from benchmark.judge.samples import EpochChoice, Published, PublishedGain, Sample
from benchmark.judge.verdicts import BLOCKING, Blocked, Judgement, Verdict
from benchmark.paper.rules import Rules


def judge_static(printed: str, candidates: Mapping[str, float]) -> Judgement:
    """Apply rule 1: compare a printed cost with each counting convention's value, in the printed unit.

    Conventions come in order of preference. Equal means that the value rounds to the printed digits (a tie may round
    either way). The more conventions are tried, the easier one fits, so the reason says how many were.
    """
    text = printed.strip().replace(",", "")
    try:
        target = Decimal(text)
    except InvalidOperation:
        target = Decimal("nan")
    if not target.is_finite():
        raise UsageError(f"{printed!r} is no printed number", "write it as printed, without its unit: 61.1")
    if not candidates:
        return Judgement(Verdict.NOT_RUN, "no convention was tried", 0)
    stats.checked(tuple(candidates.values()), 1, f"costs for {printed}")
    half = Decimal(1).scaleb(int(target.as_tuple().exponent)) / 2
    gaps = {name: Decimal(repr(float(value))) - target for name, value in candidates.items()}
    tried = f"{len(gaps)} convention{'s' if len(gaps) != 1 else ''} tried"
    equal = [name for name, gap in gaps.items() if abs(gap) <= half]
    chosen = equal[0] if equal else min(gaps, key=lambda name: abs(gaps[name]))
    value, gap = candidates[chosen], float(gaps[chosen])
    if equal:
        also = f", also under {', '.join(equal[1:])}" if equal[1:] else ""
        verdict, reason = Verdict.EQUAL, f"{value:.6g} rounds to {text} under {chosen}{also}; {tried}"
    else:
        verdict, reason = Verdict.DIFFERS, f"nearest is {value:.6g} under {chosen}, off by {gap:+.3g}; {tried}"
    return Judgement(verdict, reason, 0, gap, margin=float(half), smallest_gap_seen=float(half), convention=chosen)


def judge(published: Published, achieved: Sample, rules: Rules, blocked: Blocked | None = None) -> Judgement:
    """Return the judgement by the first rule that holds, for a cell that is measured by training.

    `blocked` is rule 2: a verdict that the caller has reached already, with its reason. It has priority over all
    others. Its gap is shown if the runs are near enough to the cell's own experiment for the gap to mean something.
    """
    scale = rules.scale(published.data, published.metric)
    measured = measure(published, achieved, scale, rules)
    if blocked is not None:
        return _blocked(blocked, achieved.n, measured)
    if achieved.diverged:
        return _unstable(achieved.diverged, achieved.n, measured)
    if measured is None:
        return Judgement(Verdict.NOT_RUN, "no repetition is recorded", 0)
    if achieved.n < rules.least:
        known, origin = assumed_spread(published, scale)
        return measured.judgement(
            Verdict.INSUFFICIENT_SEEDS,
            f"{_runs(achieved.n)} of at least {rules.least}; as an indication, not a verdict: {measured.gap_text} "
            f"is {abs(measured.gap) / known:.1f} times the spread of {known:.2f} that {origin}",
        )
    return _noted(_decide(measured), achieved)


def judge_epochs(
    published: Published,
    last: Sample,
    best: Sample,
    selection: EpochChoice,
    rules: Rules,
    blocked: Blocked | None = None,
) -> Judgement:
    """Return the verdict under the source's epoch selection. If that is unknown, the verdicts under both must agree.

    If both agree, the last epoch's numbers are shown: choosing the best epoch uses the test set.
    """
    if selection != "unknown":
        return judge(published, last if selection == "last" else best, rules, blocked)
    readings = {"last": judge(published, last, rules, blocked), "best": judge(published, best, rules, blocked)}
    by_last, by_best = readings["last"], readings["best"]
    if by_last.verdict is by_best.verdict:
        note = "" if by_last.gap is None else "; the best epoch gets the same verdict"
        return replace(by_last, reason=by_last.reason + note, readings=readings)
    reason = (
        f"the source does not say which epoch it reports: {by_last.verdict} by the last ({_signed(by_last.gap)}), "
        f"{by_best.verdict} by the best ({_signed(by_best.gap)})"
    )
    return replace(by_last, verdict=Verdict.DEPENDS_ON_EPOCH, reason=reason, readings=readings)


def _signed(gap: float | None) -> str:
    return "no gap" if gap is None else f"gap {gap:+.2f}"


def judge_gain(
    published: PublishedGain, ours: Sample, base: Sample, rules: Rules, blocked: Blocked | None = None
) -> Judgement:
    """Compare our gain (mean of ours less mean of base) with the published gain, by the same rules 3 to 8.

    Repetitions are paired if at least the minimum number is common to both, else Welch's test uses all. The published
    gain is taken as that of unpaired runs, as many as its rows state (one if they do not), with the spreads of ours.
    """
    scale = rules.scale(published.data, published.metric)
    difference = mean_difference(ours, base, rules)
    measured = None if difference is None else measure_gain(published, ours, base, difference, scale, rules)
    n = min(ours.n, base.n) if difference is None else difference.n
    if blocked is not None:
        return _blocked(blocked, n, measured)
    if ours.diverged or base.diverged:
        return _unstable(ours.diverged + base.diverged, ours.n + base.n, measured)
    if measured is None:
        if not (ours.n and base.n):
            return Judgement(Verdict.NOT_RUN, "no repetition is recorded of one of the two", n)
        gap = stats.mean(ours.values) - stats.mean(base.values) - published.value
        reason = f"{ours.n} and {_runs(base.n)}, of at least {rules.least} each"
        return Judgement(Verdict.INSUFFICIENT_SEEDS, reason, n, gap, margin=scale.margin.value)
    decided = _decide(measured)
    how = f"paired on {difference.n} repetitions" if difference and difference.paired else "unpaired (Welch)"
    return replace(decided, reason=f"{decided.reason}; {how}")


# The runs are of the cell's own experiment, or near it, so its gap is worth showing beside the verdict.
_SHOWN_WHEN_BLOCKED = frozenset({Verdict.PROTOCOL_MISMATCH, Verdict.TEACHER_MISMATCH})


def _blocked(blocked: Blocked, n: int, measured: MeasuredGap | None) -> Judgement:
    """Apply rule 2."""
    verdict, reason = blocked
    if verdict not in BLOCKING:
        raise UsageError(f"{verdict.value!r} cannot be decided before the runs are looked at", "leave it to the rules")
    if measured is None or verdict not in _SHOWN_WHEN_BLOCKED:
        return Judgement(verdict, reason, n)
    return measured.judgement(verdict, reason)


def _unstable(diverged: int, n: int, measured: MeasuredGap | None) -> Judgement:
    """Apply rule 3."""
    reason = f"{diverged} of {diverged + n} repetitions diverged"
    if measured is None:
        return Judgement(Verdict.UNSTABLE, reason, 0)
    return measured.judgement(Verdict.UNSTABLE, f"{reason}; the gap is that of the others")


def _decide(measured: MeasuredGap) -> Judgement:
    """Apply rules 5 to 8."""
    return _reproduced(measured) or _outside(measured) or _consistent(measured) or _inconclusive(measured)


def _reproduced(measured: MeasuredGap) -> Judgement | None:
    """Apply rule 5."""
    if not stats.equivalent(measured.interval, measured.margin):
        return None
    reason = f"{measured.interval_text} lies inside the margin of ±{measured.margin:.2f}"
    return measured.judgement(Verdict.REPRODUCED, reason)


def _outside(measured: MeasuredGap) -> Judgement | None:
    """Apply rule 6."""
    if not stats.beyond(abs(measured.gap), measured.prediction):
        return None
    verdict = Verdict.BELOW if measured.gap < 0 else Verdict.ABOVE
    return measured.judgement(verdict, f"{measured.gap_text} is outside {measured.prediction_text}")


def _consistent(measured: MeasuredGap) -> Judgement | None:
    """Apply rule 7."""
    if stats.beyond(measured.prediction, measured.widest):
        return None
    return measured.judgement(
        Verdict.CONSISTENT,
        f"{measured.gap_text} is inside {measured.prediction_text}, which is no wider than ±{measured.widest:.2f}; "
        f"{measured.interval_text} is not inside the margin of ±{measured.margin:.2f}",
    )


def _inconclusive(measured: MeasuredGap) -> Judgement:
    """Apply rule 8, which always holds."""
    return measured.judgement(
        Verdict.INCONCLUSIVE,
        f"{measured.gap_text} is inside {measured.prediction_text}, "
        f"which is wider than ±{measured.widest:.2f} and could hide one that matters",
    )


def _noted(judgement: Judgement, achieved: Sample) -> Judgement:
    """Return the judgement with notes on the sample: repetitions that are missing, or values that are all the same."""
    notes = []
    if achieved.declared is not None and achieved.n < achieved.declared:
        notes.append(f"{achieved.n} of {achieved.declared} declared repetitions are recorded")
    if len(set(achieved.values)) == 1:
        notes.append("all repetitions gave the same value: were they different runs?")
    return replace(judgement, reason="; ".join((judgement.reason, *notes)))


def _runs(count: int) -> str:
    return f"{count} repetition{'s' if count != 1 else ''}"
