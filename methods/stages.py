"""Which stages two networks have, and how they are paired where their counts differ."""

from __future__ import annotations

from collections.abc import Mapping

Shapes = Mapping[str, tuple[int, ...]]

STAGES_AND_PREACTS = "stage[0-9]*"  # a tap: stages, and the pre-activations of the families that have them


def stages(shapes: Shapes, preact: bool = False) -> list[str]:
    """Stage roles, shallowest first: pre-activations where they are asked for and the family has them."""
    found = sorted({role.split(".")[0] for role in shapes if role.startswith("stage")})
    return [f"{role}.preact" if preact and f"{role}.preact" in shapes else role for role in found]


def pair_from_shallowest(student: list[str], teacher: list[str]) -> list[tuple[str, str]]:
    """Shallowest first; what one network has more is left out at the deep end, as RepDistiller does."""
    return list(zip(student, teacher, strict=False))


def pair_from_deepest(student: list[str], teacher: list[str]) -> list[tuple[str, str]]:
    """Deepest first; what one network has more is left out at the shallow end, as ReviewKD and OFD do."""
    return list(zip(reversed(student), reversed(teacher), strict=False))
