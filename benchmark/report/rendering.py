"""The comparison as one HTML page that needs no network and no second file: light and dark, screen and paper."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmark.judge.sources import SourceWord
from benchmark.judge.verdicts import Verdict
from benchmark.judge.views import ClaimView, Comparison
from benchmark.machine.files import write_text
from benchmark.records.dataframe import frame_of
from benchmark.report import wording
from benchmark.report.listing import listed
from benchmark.report.page import chips, legend, points_of, sections, stages

TEMPLATES = Path(__file__).parent / "templates"
_TEXTS = {
    "paper": "The paper",
    "poster": "The poster",
    "page": "The paper's page",
    "review": "The reviews",
    "slides": "The slides of KDiffusion",
}


def write_html(comparison: Comparison, folder: Path) -> Path:
    """Write `index.html` into the folder, which is created if missing."""
    path = folder / "index.html"
    write_text(path, render(comparison))
    return path


def render(comparison: Comparison) -> str:
    """Return the page. The same comparison and curves give the same text, byte for byte."""
    runs = listed(frame_of(comparison.runs.values()))
    most = points_of(comparison, runs)
    shown = sections(comparison, runs, most)
    return (
        _environment()
        .get_template("page.html")
        .render(
            comparison=comparison,
            coverage=comparison.coverage,
            sections=shown,
            chips=chips(shown),
            legend=legend(comparison),
            evidence=wording.evidence_rows(comparison.evidence),
            source_words=tuple(SourceWord),
            source_symbols=wording.SOURCE_SYMBOLS,
            stages=stages(comparison.coverage),
            claims=_by_text(comparison.claims),
            claim_counts=_outcomes(comparison.claims),
            claims_achieved=sum(claim.achieved is not None for claim in comparison.claims),
            verdicts=tuple(Verdict),
            outcomes=wording.OUTCOMES,
            most_points=most,
        )
    )


def _outcomes(claims: tuple[ClaimView, ...]) -> dict[str, int]:
    found = Counter(claim.published.outcome for claim in claims)
    return {outcome: found[outcome] for outcome in wording.OUTCOMES if found[outcome]}


def _by_text(claims: tuple[ClaimView, ...]) -> dict[str, list[ClaimView]]:
    found: dict[str, list[ClaimView]] = {}
    for claim in claims:
        found.setdefault(_TEXTS.get(claim.text, claim.text), []).append(claim)
    return found


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in _FILTERS:
        environment.filters[name] = getattr(wording, name)
    return environment


_FILTERS = (
    "arrows",
    "commit",
    "cost",
    "cost_gap",
    "duration",
    "interval",
    "number",
    "plural",
    "printed",
    "sentence",
    "signed",
    "symbol",
    "tone",
)
