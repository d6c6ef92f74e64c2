"""`verify`: everything that can be proved without training; or only `claims` or `sources`, which take seconds."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmark.cli import requests
from benchmark.errors import CHECK_FAILED
from benchmark.machine.saying import Say, seldom


def main(arguments: requests.Verify) -> int:
    """Check, print, and refresh the committed results. Return the exit code."""
    only = {"claims": _claims, "sources": _sources}
    return only.get(arguments.what or "", _everything)(arguments)


def _everything(arguments: requests.Verify) -> int:
    from benchmark.verify.everything import cached
    from benchmark.verify.findings import static_text
    from benchmark.verify.text import text

    findings = cached(arguments.runs_dir, arguments.full, arguments.fresh, _progress())
    print(json.dumps(findings.as_json(), indent=1, ensure_ascii=False) if arguments.json else text(findings))
    if findings.problems:
        print(f"{len(findings.problems)} problems, listed at the end of the output", file=sys.stderr)
        return CHECK_FAILED
    return _refresh(arguments.results_dir, static_text(findings), arguments.check)


def _refresh(folder: Path | None, content: str, check: bool) -> int:
    """Write the committed results if they have changed; with `--check`, only report it. Return the exit code.

    The copy inside an installation is never written; a difference is only reported.
    """
    from benchmark.machine.files import write_text
    from benchmark.machine.shipped import INSTALLED
    from benchmark.records.static import STATIC

    path = folder / STATIC.name if folder else STATIC
    if path.is_file() and path.read_text(encoding="utf-8") == content:
        return 0
    if check:
        print(f"{path} is out of date; fix: python -m benchmark verify", file=sys.stderr)
        return CHECK_FAILED
    if INSTALLED and folder is None:
        again = "python -m benchmark verify --results-dir results writes these findings to results/"
        print(f"the findings differ from the installed {path}; fix: {again}", file=sys.stderr)
        return CHECK_FAILED
    write_text(path, content)
    print(f"written to {path}", file=sys.stderr)
    return 0


def _claims(arguments: requests.Verify) -> int:
    from benchmark.paper.claims import check_claims, load_claims, tally
    from benchmark.records.static import read_static

    counted = read_static().claims
    results = check_claims(load_claims())
    if arguments.json:
        print(json.dumps([asdict(result) for result in results], indent=1, ensure_ascii=False, default=str))
        return 0
    for result in results:
        print(f"{result.outcome:22}  {result.claim.id} ({result.claim.text}, {result.claim.where}): {result.sentence}")
        more = [f'"{result.claim.quote}"', *result.exceptions] if result.outcome != "holds" else []
        more += [f"{other.name}: {other.outcome}: {other.text}" for other in result.readings]
        if (cost := counted.get(result.claim.id)) is not None:
            more.append(f"counted by `verify`: {cost.outcome}: {cost.sentence}")
        print("".join(f"{'':24}{line}\n" for line in more), end="")
    print(", ".join(f"{count} {outcome}" for outcome, count in tally(results).items()))
    return 0


def _sources(arguments: requests.Verify) -> int:
    from benchmark.verify.sources import FIX, check

    found = check()
    if arguments.json:
        print(json.dumps(asdict(found), indent=1, ensure_ascii=False))
    else:
        for title, lines in (
            ("No setting here for", found.unsettable),
            ("Neither fact nor reason for", found.uncovered),
        ):
            print("\n".join([f"{title} {len(lines)}", *(f"  {line}" for line in lines)]))
        print(found.counts())
    if found.problems:
        print("\n".join([*found.problems, f"  fix: {FIX}"]), file=sys.stderr)
    return CHECK_FAILED if found.problems else 0


def _progress() -> Say:
    """Return a function that prints progress on standard error, so that standard output contains only results."""
    if sys.stderr.isatty():
        return lambda line: print(f"\r\033[K{line[:100]}", end="", file=sys.stderr, flush=True)
    return seldom(lambda line: print(line, file=sys.stderr, flush=True))
