"""`export`: a finished run's student as files for use elsewhere."""

from __future__ import annotations

from pathlib import Path

from benchmark.cli import requests
from benchmark.cli.planning import store_to_read
from benchmark.errors import UsageError
from benchmark.records.store import Record


def main(arguments: requests.Export) -> int:
    """Write the files and print their paths. Return the exit code."""
    from benchmark.train.export import found_record, student_of, write_student

    record, weights = found_record(arguments.run, store_to_read(arguments))
    name = f"{record.experiment.student}-{record.identity}".replace(":", "-")
    if arguments.kind == "cityscapes":
        written = [_for_server(arguments, record, weights, arguments.out or Path(f"{name}.zip"))]
    else:
        written = write_student(student_of(record, weights), arguments.out or Path(f"{name}.pt"))
    for path in written:
        print(f"written to {path}")
    return 0


def _for_server(arguments: requests.Export, record: Record, weights: Path, out: Path) -> Path:
    task = record.experiment.task
    if task != "segmentation" or record.status != "done":
        what = f"is {record.status}" if record.status != "done" else f"is one of {task}"
        raise UsageError(
            f"{record.label} {what}: the Cityscapes server scores finished runs of segmentation only",
            "python -m benchmark status table6 names them",
        )

    from benchmark.machine.devices import pick_device
    from benchmark.train.dense.server_archive import write_server_archive

    return write_server_archive(
        record.experiment.student,
        weights,
        out,
        arguments.data_dir,
        pick_device(arguments.device),
        whole=not arguments.partial,
        precision=record.experiment.precision,
    )
