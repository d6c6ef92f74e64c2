"""The differences between the protocol of a record and that of a cell."""

from __future__ import annotations

from collections.abc import Mapping

from benchmark.paper.datasets import STAND_INS
from benchmark.records.described import part


def why_not_comparable(described: Mapping[str, object]) -> str:
    """Return the reason why an experiment's runs cannot be compared with the paper, or an empty string."""
    profile = described.get("profile")
    found = [] if profile == "paper" else [f"profile {profile}"]
    found += other_images(described)
    return f"not comparable with published numbers: {', '.join(found)}" if found else ""


def other_images(described: Mapping[str, object]) -> list[str]:
    """List the differences between an experiment's images and the whole of a published data set."""
    data = part(described, "data")
    generated = any(data.get("name") in names for names in STAND_INS.values())
    found = [f"generated images ({data['name']})"] if generated else []
    splits = {"train": "training", "test": "test"}
    found += [f"{data[key]} {split} images" for key, split in splits.items() if data.get(key)]
    found += [f"{data['holdout']} training images as test images"] if data.get("holdout") else []
    return found + ([f"images of {data['image_size']} pixels"] if data.get("image_size") else [])


def differences(ours: Mapping[str, object], theirs: Mapping[str, object]) -> list[str]:
    """List the differences between a record's protocol and its cell's, for example "recipe B1 instead of A1"."""
    found: list[str] = []
    for name in ("data", "recipe", "teacher"):
        mine, other = part(ours, name), part(theirs, name)
        changed = [key for key in (*mine, *other) if key != "name" and mine.get(key) != other.get(key)]
        if name != "recipe" and mine.get("name") != other.get("name"):
            changed.insert(0, "name")
        for key in dict.fromkeys(changed):
            what = f"{name} {key}" if key != "name" else name
            found.append(_instead(what, other.get(key), mine.get(key)))
    for name in ("precision", "student_weights", "student_weights_sha256"):
        if ours.get(name) != theirs.get(name):
            found.append(_instead(name.replace("_", " "), theirs.get(name), ours.get(name)))
    return found


def _instead(what: str, theirs: object, ours: object) -> str:
    unset = "the default" if what.startswith(("recipe", "data")) else "none"
    return f"{what} {unset if theirs is None else theirs} instead of {unset if ours is None else ours}"
