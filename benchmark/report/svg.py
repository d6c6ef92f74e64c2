"""SVG as text: elements with escaped content and attributes, for every drawing of this program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from markupsafe import Markup, escape


def at(value: float) -> str:
    """Return a position as text with one decimal, or none if it is whole."""
    return f"{value:.1f}".removesuffix(".0")


def tag(name: str, inside: Markup | str = "", **attributes: object) -> Markup:
    """Return an element. `class_` gives `class`, other underscores become hyphens; floats are positions."""
    end = f">{escape(inside)}</{name}>" if inside else "/>"
    return Markup(f"<{name}{''.join(_written(attributes))}{end}")


def _written(attributes: dict[str, object]) -> Iterator[str]:
    for name, value in attributes.items():
        text = at(value) if isinstance(value, float) else str(value)
        yield f' {name.rstrip("_").replace("_", "-")}="{escape(text)}"'


def text(content: Markup | str, x: float, y: float, kind: str = "") -> Markup:
    """Return a line of text at a position. `kind` is its class in the style sheet."""
    return tag("text", content, x=float(x), y=float(y), **({"class_": kind} if kind else {}))


def joined(parts: Iterable[Markup], between: str = "") -> Markup:
    """Return several elements as one."""
    return Markup(between).join(parts)


def picture(title: str, described: str, width: float, height: float, style: str, parts: Iterable[Markup]) -> str:
    """Return a drawing on white as a file of its own, which needs nothing besides itself."""
    background = tag("rect", width=width, height=height, fill="white")
    lines = [tag("title", title) + tag("desc", described), tag("style", style), background, *parts]
    drawn = tag(
        "svg",
        joined([Markup(), *lines, Markup()], "\n"),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {at(width)} {at(height)}",
        width=width,
        height=height,
        role="img",
        font_family="sans-serif",
    )
    return f"{drawn}\n"
