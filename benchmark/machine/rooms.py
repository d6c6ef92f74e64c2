"""The rooms of this program and the order in which they may import each other, written once.

A room is a folder of `benchmark/`, one of its files, or `methods/`. It imports only from rooms on the floors below its
own: lazily or for type checkers alone makes no difference. A test holds every import to this, the list of what the
source hash covers is made from it, and so is the picture in docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

FLOORS: Sequence[Sequence[str]] = (
    ("errors",),
    ("machine",),
    ("models",),
    ("methods",),
    ("paper",),
    ("data", "plan"),
    ("records",),
    ("train", "judge"),
    ("launch", "probe", "verify", "report"),
    ("bench", "api"),
    ("cli",),
)

ROOMS: Mapping[str, str] = {
    "errors": "errors that a user can act on",
    "machine": "this process and this machine: files, plug-ins, provenance, streams, ranks, devices",
    "models": "networks, what they cost, files of weights, OpenMMLab's packages",
    "methods": "one file a distillation method",
    "paper": "what is published: suites, recipes, data sets, claims, rules",
    "data": "data sets: finding, decoding, batches, generated stand-ins",
    "plan": "what is to run: experiments, identities, hours, bytes",
    "records": "what ran: records, and all of them as one body of evidence",
    "train": "from an experiment to its record",
    "judge": "from records to verdicts",
    "launch": "who carries out which run: this process, several, a cluster",
    "probe": "looks into finished runs",
    "verify": "what can be proved without training",
    "report": "tables, pages, figures",
    "bench": "speed and cost, measured",
    "api": "the same for a notebook: what `import benchmark` offers",
    "cli": "the command line",
}

# Inside `train`, from its own floor up: what all tasks share, then the tasks, then the one file that opens them.
TRAIN_FLOORS: Sequence[Sequence[str]] = (("",), ("engine",), ("classification", "dense"), ("dispatch",))

# A run never judges itself, by structure: no path of imports leads from these to the rooms that train.
NEVER_REACH: Mapping[str, Sequence[str]] = {"judge": ("train", "launch"), "report": ("train", "launch")}

# What carries out a run on this machine trains too: in which order, with how many threads.
_CARRIED_OUT_BY = ("benchmark/launch/local.py", "benchmark/launch/packed.py")


def floor_of(room: str) -> int:
    """Return how high a room lies, 0 for the lowest."""
    return next(height for height, rooms in enumerate(FLOORS) if room in rooms)


def folder_of(room: str) -> str:
    """Return a room's folder or file, from the project's root."""
    if room == "methods":
        return room
    return f"benchmark/{room}.py" if room in ("errors", "api") else f"benchmark/{room}"


def trained_by() -> tuple[str, ...]:
    """Return the folders and files that a training may pass through: all that `train` may import, and itself."""
    below = [room for rooms in FLOORS[: floor_of("train")] for room in rooms]
    return (*map(folder_of, [*below, "train"]), *_CARRIED_OUT_BY)


def picture() -> str:
    """Draw the rooms by floor, the highest first, as text."""
    width = max(map(len, ROOMS))
    floors = reversed(list(enumerate(FLOORS)))
    return "\n".join(f"{height:2}  {room:{width}}  {ROOMS[room]}" for height, rooms in floors for room in rooms)
