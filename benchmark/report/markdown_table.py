"""Tables in Markdown, for every report, page and document of this program."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, rule: str = "---", padded: bool = False
) -> str:
    """Return a Markdown table. Bars inside cells are escaped, and new lines become spaces.

    `rule` is written under every head; `---:` aligns to the right. `padded` also aligns the columns of the text itself,
    for a terminal.
    """
    lines = [[" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in (heads, *rows)]
    if not padded:
        lines.insert(1, [rule] * len(heads))
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    head, *body = [f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines]
    return "\n".join((head, f"|{'|'.join('-' * (width + 2) for width in widths)}|", *body))
