"""Reading an experiment's description: the JSON object of a record that has every setting."""

from __future__ import annotations

from collections.abc import Mapping


def part(described: Mapping[str, object], name: str) -> Mapping[str, object]:
    """Return one part of a description, for example its teacher. It is empty if there is none."""
    found = described.get(name)
    return found if isinstance(found, Mapping) else {}
