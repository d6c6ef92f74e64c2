"""`collect`: take the records of others into one's results, checked, attributed, and apart from one's own."""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

from benchmark.cli import requests
from benchmark.cli.output import near
from benchmark.cli.planning import require_folder, store_of
from benchmark.errors import CHECK_FAILED, BenchmarkError
from benchmark.records.collecting import Offered, check, take
from benchmark.records.evidence import collect
from benchmark.records.store import CONTRIBUTED


def main(arguments: requests.Collect) -> int:
    """Check, copy and list. Return 0, or the code of a failed check if a file was refused or disagrees."""
    require_folder(arguments.folder, "FOLDER")
    store = store_of(arguments)
    found = check(arguments.folder, arguments.contributor, collect((store.results,)), store)
    for offered in found.fresh:
        if why := _wrong_weights(offered):
            found.refuse(offered, why)
    for path, why in found.refused.items():
        print(f"REFUSED {path}: {why}", file=sys.stderr)
    conflicts = [offered for offered in found.fresh if offered.conflict]
    for offered in conflicts:
        print(f"CONFLICT {offered.path}: another outcome than {offered.conflict}", file=sys.stderr)
    number = arguments.spot_check
    if number is not None and not _spot_check(found.fresh, number, arguments.data_dir):
        print("nothing was taken: a spot check failed", file=sys.stderr)
        return CHECK_FAILED
    known = len(found.offered) - len(found.fresh)
    written = [path for offered in found.fresh for path in take(offered)]
    records = sum(path.suffix == ".json" for path in written)
    place = near(store.results / CONTRIBUTED / arguments.contributor)
    print(f"{records} records taken into {place}, {known} were here already")
    return CHECK_FAILED if found.refused or conflicts else 0


def _wrong_weights(offered: Offered) -> str:
    """Return what is wrong with the weights beside a record; an empty string if they are its own, or not there."""
    path = offered.path.with_suffix(".pt")
    if not path.is_file():
        return ""
    import torch

    from benchmark.train.checkpoint import tensors_sha256

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, zipfile and pickle raise of many kinds about a damaged file
        return f"the weights beside it cannot be read ({type(error).__name__})"
    same = isinstance(state, dict) and tensors_sha256(state) == offered.record.weights_sha256
    return "" if same else "the weights beside it are not the record's"


def _spot_check(offered: list[Offered], number: int, data_dir: Path | None) -> bool:
    """Make some of the runs again. Return False if one comes out differently, and nothing explains it."""
    from benchmark.launch.rerun import rerun
    from benchmark.machine.devices import pick_device
    from benchmark.train.settings import Settings

    done = [each for each in offered if each.record.status == "done"]
    right = True
    for each in random.Random(0).sample(done, min(number, len(done))):
        settings = Settings(device=pick_device("auto"), data_dir=data_dir)
        with tempfile.TemporaryDirectory(prefix="benchmark-rerun-") as folder:
            try:
                found = rerun(each.record, each.path, Path(folder), settings)
            except BenchmarkError as error:
                print(f"{each.record.label}: could not be run again: {error.message}", file=sys.stderr)
                continue
        print(found.text())
        # Another machine or source may change last bits, and is named; here nothing is another.
        right = right and (found.equal or bool(found.circumstances))
    return right
