"""`export`: a finished run's student as files for use elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmark.commands.planning import store_of


def main(arguments: argparse.Namespace) -> int:
    """Write the files and name them."""
    from benchmark.exports import KINDS, found_record, student_of

    record, weights = found_record(arguments.run, store_of(arguments))
    out = arguments.out or Path(f"{record.experiment['student']}-{record.identity}.pt".replace(":", "-"))
    for path in KINDS[arguments.kind](student_of(record, weights), out):
        print(f"written to {path}")
    return 0
