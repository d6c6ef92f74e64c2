"""The stages of two networks, and their pairing if their counts differ."""

from __future__ import annotations

from methods.base import Shapes

STAGES_AND_PREACTS = "stage[0-9]*"  # a tap: stages, and the pre-activations of the families that have them


def stages(shapes: Shapes, preact: bool = False) -> list[str]:
    """List the stage roles, shallowest first: pre-activations if asked for and if the family has them."""
    found = sorted({role.split(".")[0] for role in shapes if role.startswith("stage")})
    return [f"{role}.preact" if preact and f"{role}.preact" in shapes else role for role in found]


def pair_from_shallowest(student: list[str], teacher: list[str]) -> list[tuple[str, str]]:
    """Pair the stages, shallowest first; a network's surplus deep stages are left out, as RepDistiller does."""
    return list(zip(student, teacher, strict=False))


def pair_from_deepest(student: list[str], teacher: list[str]) -> list[tuple[str, str]]:
    """Pair the stages, deepest first; a network's surplus shallow stages are left out, as ReviewKD and OFD do."""
    return list(zip(reversed(student), reversed(teacher), strict=False))
