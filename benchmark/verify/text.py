"""The findings as text for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from benchmark.records.static import StaticCell
from benchmark.verify.findings import DetectorCost, Findings


def text(findings: Findings) -> str:
    """Format all findings: costs, exports, claims, conventions, then what was not checked, then problems."""
    return "\n".join(_lines(findings))


def _lines(findings: Findings) -> Iterator[str]:
    yield "Published costs"
    yield from columns(("cell", "published", "measured", "convention", "verdict", "true count"), _cells(findings))
    for table, fit in findings.tables.items():
        yield f"  {table}: nearest is {fit}"
    reasons = {c.reason: None for c in findings.cells if c.verdict != "equal"}
    yield from (f"  {reason}" for reason in reasons)
    yield "\nNetworks"
    yield from columns(
        ("network", "data", "input", "params", "MACs", "CIRKD's count", "overcount", "fvcore"), _networks(findings)
    )
    if findings.detectors:
        yield "\nDetectors, by mmdet's own configurations; deformable convolutions are not counted"
        rows = [_detector(cost) for cost in findings.detectors]
        yield from columns(("detector", "input", "params", "MACs", "and the second stage's"), rows)
    yield f"\nWhat methods add to training: {findings.side_pair}, multiply-adds an image"
    side = sorted(findings.side, key=lambda cost: (cost.forward, cost.method))
    rows = [(s.method, f"{s.params:,}", f"{s.forward / 1e6:,.1f} M", f"{s.backward / 1e6:,.1f} M") for s in side]
    yield from columns(("method", "params", "forward", "backward"), rows)
    equal = [export.method for export in findings.exports if export.equal]
    yield f"\nExported students equal to the plain one in parameters, MACs and output: after {', '.join(equal)}"
    yield "\nClaims about cost"
    yield from (f"  {claim.id}: {claim.outcome}. {claim.sentence}" for claim in findings.claims)
    built = Counter(pair.outcome for pair in findings.pairs)
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(built.items()))
    yield f"\n{findings.experiments} experiments resolved; pairs and methods by shapes: {outcomes}"
    yield from (f"  {p.pair}, {p.method}: {p.reason}" for p in findings.pairs if p.outcome == "cannot serve")
    yield f"\nSources: {findings.sources.counts()}; python -m benchmark verify sources lists them"
    yield "\nConventions"
    for name, described in findings.conventions.items():
        yield f"  {name}: {described['counts']}"
        yield f"    right: {described['right']}"
        yield f"    wrong: {described['wrong']}"
    yield "\nNot checked"
    for why in dict.fromkeys(item.why for item in findings.unchecked):
        yield f"  {', '.join(item.what for item in findings.unchecked if item.why == why)}: {why}"
    if findings.problems:
        yield "\nPROBLEMS"
        yield from (f"  {problem}" for problem in findings.problems)


def _detector(cost: DetectorCost) -> Sequence[str]:
    second = f"{cost.second_stage / 1e9:,.2f} G" if cost.second_stage else ""
    return cost.model, cost.input, f"{cost.params:,}", f"{cost.macs / 1e9:,.2f} G", second


def _cells(findings: Findings) -> list[Sequence[str]]:
    """Return the rows of the costs. Cells with the same content, such as those of one student, share a row."""
    alike: dict[tuple[str, ...], list[StaticCell]] = {}
    for cell in findings.cells:
        key = (cell.cell.partition("/")[0], cell.about, cell.metric, cell.printed, str(cell.value))
        alike.setdefault(key, []).append(cell)
    rows: list[Sequence[str]] = []
    for cells in alike.values():
        first = cells[0]
        more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        measured = "-" if first.value is None else f"{first.value:g}"
        true = "-" if first.true is None else f"{first.true:g}"
        rows.append((first.cell + more, first.printed, measured, first.convention or "-", first.verdict, true))
    return rows


def _networks(findings: Findings) -> list[Sequence[str]]:
    return [
        (
            network.model,
            network.data,
            network.input,
            f"{network.params:,}",
            f"{network.macs / 1e9:,.4g} G",
            f"{network.cirkd / 1e9:,.4g} G",
            f"{network.cirkd / network.macs - 1:+.1%}",
            "-" if network.fvcore is None else "same" if network.fvcore == network.macs else f"{network.fvcore:,}",
        )
        for network in findings.networks
    ]


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield lines of aligned columns, indented."""
    lines = [header, *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(header))]
    for line in lines:
        yield ("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))).rstrip()
