"""The comparison as Markdown: one section for each table, published above achieved, with all that the page says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields

from benchmark.judge.contrasts import Gain
from benchmark.judge.sources import SourceWord
from benchmark.judge.stats import Interval
from benchmark.judge.verdicts import Judgement, Verdict
from benchmark.judge.views import CellView, ClaimAnswer, Comparison, EvidenceSummary, Reference, TableView
from benchmark.report.markdown_table import markdown_table
from benchmark.report.wording import evidence_rows, plural

BREAK = "<br>"
TITLES = {
    "paper": "Published numbers against re-runs",
    "reruns": "Independent re-runs against ours",
    "all": "Published numbers and independent re-runs against ours",
}


def report(comparison: Comparison) -> str:
    """Return the whole report as one text."""
    parts = [f"# {TITLES[comparison.mode]}", summary(comparison)]
    if comparison.inputs.problems:
        problems = (f"{p.kind}: `{p.where}`: {p.message}" for p in comparison.inputs.problems)
        parts.append("## Problems with the inputs\n\n" + _list(problems))
    parts += [section(table) for table in comparison.tables]
    parts += [_claims(comparison), _provenance(comparison), _rules(comparison)]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def summary(comparison: Comparison) -> str:
    """Return the counts of verdicts, the coverage and the notes."""
    counts = [(str(v), str(n), v.meaning) for v, n in comparison.counts.items()] or [
        ("none", "0", "nothing to compare")
    ]
    names = [field.name for field in fields(comparison.coverage)]
    total = ("all", *(str(getattr(comparison.coverage, name)) for name in names))
    rows = [(t.suite, *(str(getattr(t.coverage, name)) for name in names)) for t in comparison.tables]
    heads = ("", *(name.replace("_", " ") for name in names))
    parts = [
        " ".join(comparison.evidence.sentences),
        *_by_evidence(comparison.evidence),
        markdown_table(("verdict", "cells", "meaning"), counts),
        "Coverage, in cells with a published number:",
        markdown_table(heads, [total, *rows]),
        _list((*comparison.notes, inputs_line(comparison))),
    ]
    return "\n\n".join(parts)


def _by_evidence(summary: EvidenceSummary) -> Iterator[str]:
    if rows := evidence_rows(summary):
        yield "By the strongest evidence that each number has:"
        yield markdown_table(("evidence", "its word", "authors' own", "copied"), [tuple(map(str, row)) for row in rows])


def inputs_line(comparison: Comparison) -> str:
    """Return one sentence about the records that were read."""
    found = comparison.inputs
    counts = {
        "unreadable": found.unreadable,
        "copies of others": found.duplicates,
        "runs with conflicting records": found.conflicts,
        "of experiments that no suite has": found.unknown,
        "of teachers": found.teachers,
        "of an older format": found.older_schema,
    }
    odd = "".join(f", {count} {what}" for what, count in counts.items() if count)
    return f"{found.records} records from {', '.join(found.folders) or 'nowhere'}{odd}."


def section(table: TableView) -> str:
    """Return one table with its gains, its orderings, and the reason of every verdict that comes from runs."""
    parts = [f"## {heading(table)}", *filter(None, (table.note, _facts(table))), _body(table)]
    reasoned = [cell for cell in table.cells if cell.problem or _reasoned(cell)]
    if reasoned:
        common = _common(reasoned)
        lines = [
            *(f"All of them: {note}" for note in common),
            *(d for cell in reasoned for d in _details(cell, common)),
        ]
        parts.append("### Cell by cell\n\n" + _list(lines))
    parts += _sources(table)
    parts += _others(table)
    if table.variants or table.not_run:
        parts.append("### Variants\n\n" + _variants(table))
    judged = [gain for gain in table.gains if gain.achieved is not None]
    if judged:
        parts.append("### Gains\n\n" + _gains(judged, len(table.gains)))
    if table.orderings is not None:
        parts.append("### Orderings\n\n" + _orderings(table))
    return "\n\n".join(parts) + "\n"


def heading(table: TableView) -> str:
    """Return a heading such as `Table 9: CIFAR-100, ...`; a suite without a table number is named by its own name."""
    name = f"Table {table.table}" if table.table.isdigit() else table.table
    return f"{name}: {table.title}"


def _facts(table: TableView) -> str:
    kind = "declared repetitions" if table.repetitions > 1 else "declared repetition"
    facts = [f"Source: {table.source}", f"suite `{table.suite}`", f"{table.repetitions} {kind}"]
    if table.profile != "paper":
        facts.append(f"profile {table.profile}: not comparable with published numbers")
    if table.repeats:
        facts.append(f"a copy of `{table.repeats}`")
    if table.flags.expected:
        facts.append(f"by chance alone {table.flags.expected:.1f} cells would be below or above")
    return ", ".join(facts) + "."


def _body(table: TableView) -> str:
    rows = []
    for line in table.rows:
        name = line.name + (" (cited)" if line.standing == "cited" else "")
        rows.append((name, *(_cell(cell) if cell is not None else "" for cell in line.cells)))
    return markdown_table(("", *table.columns), rows)


def _cell(cell: CellView) -> str:
    if not cell.references:
        ours = cell.problem or (_ours(cell) if cell.ours is not None else "-")
        return ours if cell.printed is None else f"{cell.printed}{BREAK}{ours}"
    parts: list[str] = []
    for reference in cell.references:
        rerun = f" ({reference.source})" if reference.kind == "rerun" else ""
        parts += [f"{reference.printed}{rerun}", _outcome(cell, reference)]
    return BREAK.join(parts)


def _outcome(cell: CellView, reference: Reference) -> str:
    judgement = reference.judgement
    if judgement.gap is None:
        return f"*{judgement.verdict}*"
    gap = f"{judgement.gap:+.3g}" if cell.static else f"{judgement.gap:+.2f}{_interval(judgement.interval)}"
    return f"{_ours(cell)}, {gap}{BREAK}*{judgement.verdict}*"


def _ours(cell: CellView) -> str:
    if cell.static:
        return f"{cell.measured:.6g}" if cell.measured is not None else "-"
    return f"{cell.achieved.text} ({cell.achieved.n})" if cell.achieved else "-"


def _interval(interval: Interval | None) -> str:
    return f" [{interval.low:+.2f}, {interval.high:+.2f}]" if interval else ""


def _reasoned(cell: CellView) -> list[Reference]:
    """Return the references whose verdict comes from runs or from their protocol, not the ones that were never run."""
    silent = {Verdict.NOT_RUN, Verdict.NOT_VERIFIABLE}
    return [reference for reference in cell.references if reference.judgement.verdict not in silent]


def _common(cells: Sequence[CellView]) -> tuple[str, ...]:
    """Return the notes that all cells share, so that they are printed once."""
    first, *others = cells
    return tuple(note for note in first.notes if others and all(note in cell.notes for cell in others))


def _details(cell: CellView, common: tuple[str, ...]) -> Iterator[str]:
    name = f"**{cell.group + ': ' if cell.group else ''}{cell.row}, {cell.column}**"
    own = [note for note in cell.notes if note not in common]
    for reference in _reasoned(cell):
        judgement = reference.judgement
        against = f" against {reference.printed} ({reference.source})" if reference.kind == "rerun" else ""
        notes = f" ({'; '.join(own)})" if own else ""
        yield f"{name}{against}: *{judgement.verdict}*: {_reason(judgement)}{notes}"
    if cell.problem:
        yield f"{name}: {cell.problem}"


def _reason(judgement: Judgement) -> str:
    seen = judgement.smallest_gap_seen
    # For a cost it is only the rounding, which the reason has already.
    return judgement.reason + (f"; the smallest gap seen would be {seen:.2f}" if seen and judgement.n else "")


def _sources(table: TableView) -> Iterator[str]:
    """Yield the cited numbers that are not as in their source, if there are any."""
    rows = [
        (_row_of(cell), cell.column, cell.printed or "-", str(source.word), source.reason)
        for cell in table.cells
        if (source := cell.evidence.source) is not None and source.word is not SourceWord.AS_IN_SOURCE
    ]
    if rows:
        yield "### Sources\n\n" + markdown_table(("row", "column", "printed", "verdict", "why"), rows)


def _others(table: TableView) -> Iterator[str]:
    """Yield what others got, if anything is known of it."""
    rows = [
        (
            *(_row_of(cell), cell.column, cell.printed or "-", other.printed),
            f"{other.gap:+.2f}",
            str(other.runs or "?"),
            other.word,
            other.source,
            other.protocol + (f"; {other.judgement.reason}" if other.judgement else ""),
        )
        for cell in table.cells
        for other in cell.evidence.reruns
    ]
    if rows:
        heads = (
            "row",
            "column",
            "printed",
            "theirs",
            "theirs - printed",
            "runs",
            "verdict",
            "whose",
            "protocol, and why",
        )
        yield "### Re-runs by others\n\n" + markdown_table(heads, rows)


def _row_of(cell: CellView) -> str:
    return f"{cell.group}: {cell.row}" if cell.group else cell.row


def _variants(table: TableView) -> str:
    """Return the results under other readings beside those of the suite's own; none is mixed with another."""
    main = {(cell.group, cell.row, cell.column): cell for cell in table.cells}
    rows = []
    for cell in table.variants:
        own = main[cell.group, cell.row, cell.column]
        results = [f"{_ours(each)}{BREAK}*{each.verdict or 'nothing to compare'}*" for each in (own, cell)]
        rows.append((_row_of(cell), cell.column, cell.printed or "-", results[0], cell.variant, results[1], cell.note))
    heads = ("row", "column", "published", "as the suite has it", "variant", "under the variant", "which reading it is")
    parts = [markdown_table(heads, rows)] if rows else []
    if table.not_run:
        counts = ", ".join(f"{name} ({plural(count, 'cell')})" for name, count in table.not_run.items())
        parts.append(f"Not run: {counts}. `python -m benchmark run {table.suite} --variant NAME` runs one.")
    return "\n\n".join(parts)


def _gains(gains: Sequence[Gain], total: int) -> str:
    rows = [
        (
            gain.row,
            gain.column,
            gain.over,
            f"{gain.published:+.2f}",
            f"{gain.achieved:+.2f}" if gain.achieved is not None else "-",
            f"{gain.judgement.gap:+.2f}{_interval(gain.judgement.interval)}" if gain.judgement.gap is not None else "-",
            str(gain.judgement.verdict),
        )
        for gain in gains
    ]
    heads = ("row", "column", "over", "published", "ours", "ours - published", "verdict")
    return f"{markdown_table(heads, rows)}\n\n{len(gains)} of {total} published gains have runs on both sides."


def _orderings(table: TableView) -> str:
    assert table.orderings is not None
    judged = table.orderings.judgements
    words = Counter(judgement.order.value for judgement in judged)
    counts = ", ".join(f"{count} {word}" for word, count in sorted(words.items()))
    flags = table.orderings.flags
    declared = "Declared before any run. " if table.expected else ""
    text = (
        f"{declared}{counts}; {table.left_out} more have no runs. {table.orderings.tested} were tested; "
        f"p values are adjusted by Holm. Unadjusted, chance alone would give {flags.expected:.1f} false ones."
    )
    rows = [(judgement.name, judgement.order.value, judgement.reason) for judgement in judged]
    return f"{markdown_table(('ordering', 'verdict', 'why'), rows)}\n\n{text}"


def _claims(comparison: Comparison) -> str:
    if not comparison.claims:
        return ""
    rows = []
    for claim in comparison.claims:
        ours = _answer(claim.achieved) if claim.achieved else "-"
        rows.append((claim.id, claim.where, claim.quote, _answer(claim.published), ours))
    counts = Counter(claim.published.outcome for claim in comparison.claims)
    said = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
    heads = ("claim", "where", "words", "by the published numbers", "by ours")
    return f"## Claims\n\nBy the published numbers: {said}.\n\n{markdown_table(heads, rows)}"


def _answer(answer: ClaimAnswer) -> str:
    readings = [f"{name}: {outcome}: {sentence}" for name, outcome, sentence in answer.readings]
    return ". Read otherwise, ".join([f"{answer.outcome}: {answer.sentence}", *readings])


def _provenance(comparison: Comparison) -> str:
    found = comparison.provenance
    kinds = {
        "commits": found.commits,
        "sources": found.sources,
        "hardware": found.hardware,
        "devices": found.devices,
        "packages": found.packages,
    }
    lines = [f"{name}: " + ", ".join(f"{what} ({n})" for what, n in counts.items()) for name, counts in kinds.items()]
    known = [line for line in lines if not line.endswith(": ")]
    program = found.program
    dirty = " with uncommitted changes" if program.get("dirty") else ""
    known.append(f"compared by: commit {program.get('commit')}{dirty}, source {program.get('source_sha256')}")
    return "## Provenance\n\nWith the number of runs:\n\n" + _list(known)


def _rules(comparison: Comparison) -> str:
    rows = [(rule.name, f"{rule.value:g}", rule.source, rule.reason) for rule in comparison.rules]
    return "## Rules\n\n" + markdown_table(("number", "value", "source", "reason"), rows)


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
