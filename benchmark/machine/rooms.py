"""The rooms of this program and the order in which they may import each other, written once.

A room is a folder of `benchmark/`, one of its files, or `methods/`. It imports only from rooms on lower floors. Imports
inside functions and imports for type checkers count too. A test checks every import against this order. The list of
files that the source hash covers and the picture in docs/architecture.md are made from it.
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
    "machine": "the process and its machine: files, plug-ins, provenance, streams, ranks, devices",
    "models": "networks, what they cost, files of weights, OpenMMLab's packages",
    "methods": "distillation methods, each in one file",
    "paper": "what is published: suites, recipes, data sets, claims, rules",
    "data": "data sets: finding, decoding, batches, generated stand-ins",
    "plan": "what a run will train: experiments, identities, hours, bytes",
    "records": "what ran: records, and the evidence of several machines together",
    "train": "from an experiment to its record",
    "judge": "from records to verdicts",
    "launch": "who executes which run: this process, several, a cluster",
    "probe": "looks into finished runs",
    "verify": "checks that need no training",
    "report": "tables, pages, figures",
    "bench": "measurements of speed and cost",
    "api": "what `import benchmark` offers to a notebook",
    "cli": "the command line",
}

# Inside `train`, from its own floor up: what all tasks share, then the tasks, then the one file that opens them.
TRAIN_FLOORS: Sequence[Sequence[str]] = (("",), ("engine",), ("classification", "dense"), ("dispatch",))

# A run never judges itself: no chain of imports leads from these rooms to the rooms that train.
NEVER_REACH: Mapping[str, Sequence[str]] = {"judge": ("train", "launch"), "report": ("train", "launch")}

# These files execute runs on this machine. They belong to the source hash because they choose the number of threads
# and the order of steps.
_EXECUTED_BY = ("benchmark/launch/local.py", "benchmark/launch/packed.py")


def floor_of(room: str) -> int:
    """Return the number of a room's floor, 0 for the lowest."""
    return next(height for height, rooms in enumerate(FLOORS) if room in rooms)


def folder_of(room: str) -> str:
    """Return a room's folder or file, from the project's root."""
    if room == "methods":
        return room
    return f"benchmark/{room}.py" if room in ("errors", "api") else f"benchmark/{room}"


def reached_by(room: str) -> tuple[str, ...]:
    """Return the folders and files of a room and of all rooms that it may import."""
    below = [name for rooms in FLOORS[: floor_of(room)] for name in rooms]
    return tuple(map(folder_of, [*below, room]))


def trained_by() -> tuple[str, ...]:
    """Return the folders and files whose code can run in a training: those that `train` reaches, and its launchers."""
    return (*reached_by("train"), *_EXECUTED_BY)


def picture() -> str:
    """Draw the rooms by floor, the highest first, as text."""
    width = max(map(len, ROOMS))
    floors = reversed(list(enumerate(FLOORS)))
    return "\n".join(f"{height:2}  {room:{width}}  {ROOMS[room]}" for height, rooms in floors for room in rooms)
