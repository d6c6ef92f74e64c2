"""The differences between the protocol of a record and that of a cell."""

from __future__ import annotations

from benchmark.paper.datasets import STAND_INS
from benchmark.records.facts import DataSettings, ExperimentSettings, Part


def why_not_comparable(described: ExperimentSettings) -> str:
    """Return the reason why an experiment's runs cannot be compared with the paper, or an empty string."""
    found = [] if described.profile == "paper" else [f"profile {described.profile}"]
    found += other_images(described.data)
    return f"not comparable with published numbers: {', '.join(found)}" if found else ""


def other_images(data: DataSettings) -> list[str]:
    """List the differences between an experiment's images and the whole of a published data set."""
    generated = any(data.name in names for names in STAND_INS.values())
    found = [f"generated images ({data.name})"] if generated else []
    found += [f"{size} {split} images" for size, split in ((data.train, "training"), (data.test, "test")) if size]
    found += [f"{data.holdout} training images as test images"] if data.holdout else []
    return found + ([f"images of {data.image_size} pixels"] if data.image_size else [])


def differences(ours: ExperimentSettings, theirs: ExperimentSettings) -> list[str]:
    """List the differences between a record's protocol and its cell's, for example "recipe B1 instead of A1"."""
    found: list[str] = []
    for name in ("data", "recipe", "teacher"):
        mine, other = _part(ours, name), _part(theirs, name)
        changed = [key for key in (*mine, *other) if key != "name" and mine.get(key) != other.get(key)]
        if name != "recipe" and mine.get("name") != other.get("name"):
            changed.insert(0, "name")
        for key in dict.fromkeys(changed):
            what = f"{name} {key}" if key != "name" else name
            found.append(_instead(what, other.get(key), mine.get(key)))
    for name in ("precision", "student_weights", "student_weights_sha256"):
        if getattr(ours, name) != getattr(theirs, name):
            found.append(_instead(name.replace("_", " "), getattr(theirs, name), getattr(ours, name)))
    return found


def _part(described: ExperimentSettings, name: str) -> dict[str, object]:
    found: Part | None = getattr(described, name)
    # A teacher that is trained is known by its experiment's identity, and records of format 1 have no more.
    return {key: value for key, value in found.plain().items() if key != "described"} if found is not None else {}


def _instead(what: str, theirs: object, ours: object) -> str:
    unset = "the default" if what.startswith(("recipe", "data")) else "none"
    return f"{what} {unset if theirs is None else theirs} instead of {unset if ours is None else ours}"
