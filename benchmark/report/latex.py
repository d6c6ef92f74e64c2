r"""A table as LaTeX: booktabs, standard deviations, best in bold, the verdict as a letter; needs \usepackage{booktabs}.

Each row has two lines, what is published and what we have, so that tables of any width keep the paper's own columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from benchmark.judge.verdicts import Verdict
from benchmark.judge.views import CellView, TableRow, TableView
from benchmark.paper.rules import load_rules
from benchmark.report.markdown import heading

LETTERS = {
    Verdict.REPRODUCED: "R",
    Verdict.CONSISTENT: "C",
    Verdict.INCONCLUSIVE: "I",
    Verdict.BELOW: "B",
    Verdict.ABOVE: "A",
    Verdict.INSUFFICIENT_SEEDS: "S",
    Verdict.DEPENDS_ON_EPOCH: "E",
    Verdict.UNSTABLE: "U",
    Verdict.PROTOCOL_MISMATCH: "P",
    Verdict.TEACHER_MISMATCH: "T",
    Verdict.EQUAL: "=",
    Verdict.DIFFERS: r"$\neq$",
}
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "†": r"$\dagger$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "λ": r"$\lambda$",
    "γ": r"$\gamma$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "≠": r"$\neq$",
}


def escaped(text: str) -> str:
    """Return text escaped for LaTeX, `->` as an arrow.

    Unknown characters stay: the document's encoding handles them.
    """
    arrows = text.replace("->", "→")
    return "".join(_SPECIAL.get(character, character) for character in arrows)


def table(view: TableView) -> str:
    """Return a `table` environment.

    Cells without a value of ours show a dash; letters are explained below the table.
    """
    columns = len(view.columns) + 2
    head = " & ".join(("", "", *map(escaped, view.columns)))
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(heading(view))}. {escaped(view.source)}.}}",
        rf"\label{{tab:{view.suite.replace('_', '-')}}}",
        r"\footnotesize",
        r"\setlength{\tabcolsep}{3pt}",
        rf"\begin{{tabular}}{{ll{'c' * len(view.columns)}}}",
        r"\toprule",
        rf"{head} \\",
        r"\midrule",
        *_rows(view, columns),
        r"\bottomrule",
        r"\end{tabular}",
        *_legend(view),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _rows(view: TableView, columns: int) -> Iterator[str]:
    published = _best(view, _printed)
    achieved = _best(view, lambda cell: cell.ours)
    group = ""
    for line in view.rows:
        if line.group != group:
            group = line.group
            yield r"\addlinespace"
            yield rf"\multicolumn{{{columns}}}{{l}}{{\textit{{{escaped(group)}}}}} \\"
        yield _line(escaped(line.row), "published", (_theirs(cell, published) for cell in line.cells))
        if _has_ours(line):
            yield _line("", "ours", (_ours(cell, achieved) for cell in line.cells))


def _line(name: str, kind: str, cells: Iterable[str]) -> str:
    return rf"{' & '.join((name, kind, *cells))} \\"


def _has_ours(line: TableRow) -> bool:
    return any(cell is not None and cell.ours is not None for cell in line.cells)


def _theirs(cell: CellView | None, best: frozenset[str]) -> str:
    if cell is None or cell.printed is None:
        return "--"
    value, _, std = cell.printed.partition("±")
    return _number(value, std, cell.id in best)


def _ours(cell: CellView | None, best: frozenset[str]) -> str:
    if cell is None or cell.ours is None:
        return "--"
    letter = LETTERS.get(cell.verdict, "") if cell.verdict else ""
    mark = rf"\textsuperscript{{{letter}}}" if letter else ""
    if cell.achieved is None:
        return f"{cell.ours:.5g}{mark}"
    value, _, std = cell.achieved.text.partition("±")
    return _number(value, std, cell.id in best) + mark


def _number(value: str, std: str, bold: bool) -> str:
    shown = rf"\textbf{{{value}}}" if bold else value
    return shown + (rf"\,{{\scriptsize$\pm$\,{std}}}" if std else "")


def _printed(cell: CellView) -> float | None:
    return float(cell.printed.partition("±")[0]) if cell.printed is not None else None


def _best(view: TableView, number: Callable[[CellView], float | None]) -> frozenset[str]:
    """Return the cells with the highest number among cells that differ only in the method, if there are several."""
    higher_is_better = {metric for scale in load_rules().scales for metric in scale.metrics}
    contests: dict[str, dict[str, float]] = {}
    for cell in view.cells:
        value = number(cell)
        if cell.contest and value is not None and cell.metric in higher_is_better:
            contests.setdefault(cell.contest, {})[cell.id] = value
    several = [values for values in contests.values() if len(values) > 1]
    return frozenset(name for values in several for name in values if values[name] == max(values.values()))


def _legend(view: TableView) -> Iterator[str]:
    used = {cell.verdict for cell in view.cells if cell.ours is not None}
    said = [f"{letter}: {verdict}" for verdict, letter in LETTERS.items() if verdict in used]
    if said:
        yield ""
        yield rf"\smallskip {'; '.join(said)}."
