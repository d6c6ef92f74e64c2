"""`report`: records against published numbers, as a page, Markdown, CSV, JSON and LaTeX, without torch."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path

from benchmark.cli import requests
from benchmark.cli.output import print_rows
from benchmark.cli.planning import record_folders
from benchmark.errors import CHECK_FAILED
from benchmark.judge.compare import Sources, compare
from benchmark.judge.verdicts import Verdict
from benchmark.judge.views import Comparison
from benchmark.machine.files import write_text
from benchmark.records.evidence import ProblemKind

BROKEN_MANIFEST = 2
SHOWN_PROBLEMS = 20


def main(arguments: requests.Report) -> int:
    """Compare, write the report, and print a summary. Return the exit code."""
    if arguments.figure:
        from benchmark.cli import figure

        return figure.main(arguments)
    gate = [Verdict.parse(word) for word in arguments.fail_on.split(",") if word.strip()]
    comparison = compare(
        Sources(
            folders=record_folders(arguments),
            mode=arguments.compare,
            only=tuple(dict.fromkeys(arguments.suite)),
        )
    )
    written = write(comparison, arguments.out or Path("reports") / arguments.compare)
    if arguments.json:
        print(json.dumps(comparison.to_json(), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        _print(comparison, written)
    return _exit_code(comparison, gate)


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write every form of the report. The same records give the same files, byte for byte."""
    from benchmark.report import latex, markdown
    from benchmark.report.cells_csv import cells_csv
    from benchmark.report.rendering import write_html

    texts = {
        "comparison.json": json.dumps(comparison.to_json(), ensure_ascii=False, allow_nan=False) + "\n",
        "cells.csv": cells_csv(comparison),
        "report.md": markdown.report(comparison),
    }
    for table in comparison.tables:
        texts[f"tables/{table.suite}.md"] = markdown.section(table)
        texts[f"tables/{table.suite}.tex"] = latex.table(table)
    for name, text in texts.items():
        write_text(folder / name, text)
    return [write_html(comparison, folder), *(folder / name for name in texts)]


def _print(comparison: Comparison, written: list[Path]) -> None:
    from benchmark.report.markdown import inputs_line

    print(inputs_line(comparison))
    print()
    counts = [{"verdict": str(verdict), "cells": count} for verdict, count in comparison.counts.items()]
    print_rows(counts or [{"verdict": "none", "cells": 0}], as_json=False)
    print()
    coverage = comparison.coverage
    said = (f"{getattr(coverage, field.name)} {field.name.replace('_', ' ')}" for field in fields(coverage))
    print(f"coverage, in published numbers: {', '.join(said)}")
    print()
    for sentence in comparison.evidence.sentences:
        print(sentence)
    print()
    problems = comparison.inputs.problems
    for problem in problems[:SHOWN_PROBLEMS]:
        print(f"PROBLEM {problem.kind}: {problem.where}: {problem.message}", file=sys.stderr)
    if len(problems) > SHOWN_PROBLEMS:
        print(f"PROBLEM and {len(problems) - SHOWN_PROBLEMS} more, in the report", file=sys.stderr)
    page, *others = written
    print(f"written to {page}, with {len(others)} more files: {_named(others, page.parent)}")


def _named(paths: list[Path], folder: Path) -> str:
    names = [str(path.relative_to(folder)) for path in paths if path.parent == folder]
    return ", ".join((*names, "tables/*.md, tables/*.tex") if len(names) < len(paths) else names)


def _exit_code(comparison: Comparison, gate: list[Verdict]) -> int:
    hits = comparison.hit(gate)
    for cell, reference in hits:
        judgement = reference.judgement
        print(f"GATE {judgement.verdict}: {cell.id}: {judgement.reason}", file=sys.stderr)
    if hits:
        return CHECK_FAILED
    broken = any(problem.kind is ProblemKind.MANIFEST for problem in comparison.inputs.problems)
    return BROKEN_MANIFEST if broken else 0
