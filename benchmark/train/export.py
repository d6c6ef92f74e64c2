"""A trained student as files that work without this project: a state dict, and a program of torch.export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark.errors import BenchmarkError, MissingInput, UsageError
from benchmark.machine.files import write_atomically
from benchmark.models.registry import model
from benchmark.paper.datasets import layout_of
from benchmark.paper.tasks import TASKS
from benchmark.records.store import Record, Store, read_record
from benchmark.train.checkpoint import tensors_sha256
from benchmark.train.precision import EVALUATED, arithmetic

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Student:
    """A finished run's plain network, and the shape C,H,W of an image it takes."""

    network: nn.Module
    shape: tuple[int, int, int]


def student_of(record: Record, weights: Path) -> Student:
    """Build the network that a record describes, and load its weights.

    Raises:
        MissingInput: the weights are gone, or are not the record's.
        UsageError: the run has no student of its own.
    """
    task, name = record.experiment.task, record.experiment.student
    if not TASKS[task].exports_student or record.status != "done":
        what = f"is {record.status}" if record.status != "done" else f"is one of {task}"
        raise UsageError(f"{record.label} {what}: no student to export", "python -m benchmark status names others")
    if not weights.is_file():
        raise MissingInput(
            f"{record.label} has no weights at {weights}", "export where it was trained, or run it again"
        )
    state: dict[str, Tensor] = torch.load(weights, map_location="cpu", weights_only=True)
    if tensors_sha256(state) != record.weights_sha256:
        raise MissingInput(
            f"{weights} does not hold the weights of {record.label}", "restore the file, or run it again"
        )
    data = record.experiment.data
    side = data.image_size or (32 if layout_of(data.name) == "memory" else 224)
    with torch.random.fork_rng(devices=[]):
        network = model(name).build(record.data.classes or 100, image_size=side)
    network.load_state_dict(state)
    return Student(network.eval(), (3, side, side))


def write_student(student: Student, out: Path) -> list[Path]:
    """Write a state dict to `out` and a checked `.pt2` for any batch size beside it. Return both paths.

    Raises:
        BenchmarkError: the network cannot be exported, or the program gives other outputs.
    """
    if out.suffix == ".pt2":
        raise UsageError(f"{out} is to be a state dict", "name it .pt; the .pt2 is written beside it")
    write_atomically(out, lambda file: torch.save(student.network.state_dict(), file))
    program = out.with_suffix(".pt2")
    example = torch.rand(2, *student.shape, generator=torch.Generator().manual_seed(0))
    batch = torch.export.Dim("batch", min=1)
    try:
        with arithmetic(EVALUATED):
            exported = torch.export.export(student.network, (example,), dynamic_shapes=({0: batch},))
    except Exception as error:  # torch.export raises of many kinds, all of them about the network
        raise BenchmarkError(
            f"torch.export cannot export this network: {str(error).splitlines()[0]}",
            f"the state dict is written: {out}",
        ) from error
    write_atomically(program, lambda file: torch.export.save(exported, file))
    _check(student, program, torch.cat([example, example.flip(0), example[:1]]))
    return [out, program]


def _check(student: Student, program: Path, images: Tensor) -> None:
    loaded = torch.export.load(program).module()
    with torch.no_grad(), arithmetic(EVALUATED):
        gap = (loaded(images) - student.network(images)).abs().max().item()
        scale = student.network(images).abs().max().item()
    if not gap <= TOLERANCE * max(1.0, scale):
        raise BenchmarkError(f"{program} gives outputs that differ by {gap:.2g}", "use the state dict")


def found_record(name: str, store: Store) -> tuple[Record, Path]:
    """Return a record and the path of its weights. `name` is the record's path, or the beginning of an identity.

    A suffix `#1` selects repetition 1.

    Raises:
        UsageError: there is none, or several.
    """
    wanted, _, repetition = name.partition("#")
    number = int(repetition) if repetition.isdigit() else 0
    path = Path(name)
    known = [read_record(path)] if path.is_file() else store.all()
    matches = [record for record in known if isinstance(record, Record)]
    if not path.is_file():
        matches = [one for one in matches if one.identity.startswith(wanted) and one.repetition == number]
    if len(matches) != 1:
        what = "no run" if not matches else f"{len(matches)} runs"
        hint = "python -m benchmark list cells prints identities; a record's path serves too"
        raise UsageError(f"{what} is {name!r}", hint)
    record = matches[0]
    work = store.runs / "work" / f"{record.identity}-r{record.repetition}" / "student.pt"
    beside = path.with_suffix(".pt")
    return record, beside if path.is_file() and beside.is_file() else work
