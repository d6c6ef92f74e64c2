"""Weight files whose hash no suite states must equal the files that the experiment used first.

A name or a path identifies nothing: the file behind it may be exchanged between two repetitions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmark.errors import BenchmarkError
from benchmark.machine.files import write_text
from benchmark.machine.ranks import ALONE, Ranks
from benchmark.plan.experiment import Experiment, Run
from benchmark.records.store import Record, Store, read_record
from methods.base import Method

WeightFiles = Mapping[str, Mapping[str, str]]  # by whose weights they are: the file's name and sha256


def given_files(method: Method) -> dict[str, Mapping[str, str]]:
    """Return the weight files that a method and its component methods have read."""
    parts = [part for part in method.modules() if isinstance(part, Method)]
    return {whose: file for part in parts for whose, file in part.files.items()}


def held(run: Run, files: WeightFiles, store: Store, ranks: Ranks = ALONE, teacher_sha256: str | None = None) -> None:
    """Raise if a run has other weight files than its experiment used before. Remember the files of the first run.

    Args:
        run: the run that is about to be trained or evaluated.
        files: its weight files.
        store: where earlier records and working states lie.
        ranks: the processes of this run, each of which has read the files.
        teacher_sha256: hash of the teacher's tensors; records of earlier versions have only this one.

    Raises:
        BenchmarkError: a file has other bytes than before.
    """
    found = {whose: file["sha256"] for whose, file in files.items()}
    known = found | ({_TENSORS: teacher_sha256} if "teacher" in files and teacher_sha256 is not None else {})
    if any(other != found for other in ranks.all(found)):
        raise BenchmarkError(
            f"the processes of {run.label} read different weight files", "the file changed meanwhile: run again"
        )
    for place, earlier in _earlier(run, store):
        for whose, sha in earlier.items():
            now = known.get(whose)
            if now is not None and now != sha:
                name = files["teacher" if whose == _TENSORS else whose]["file"]
                stated = _STATED.get(whose)
                raise BenchmarkError(
                    f"{run.label}: {name} holds other bytes than in {place}: sha256 {now[:12]}, then {sha[:12]}",
                    f"restore the file, or delete {place} and all runs of {run.experiment.identity} that used the other"
                    + (f"; with {stated} in the suite it is another experiment" if stated else ""),
                )
    if ranks.leads and found:
        write_text(_note(run, store), json.dumps(found) + "\n")


_TENSORS = "teacher's tensors"
_STATED = {
    "teacher": "the new file's `sha256`",
    _TENSORS: "the new file's `sha256`",
    "student": "the new file's `student_weights_sha256`",
}


def _note(run: Run, store: Store) -> Path:
    return store.runs / "work" / f"{run.experiment.identity}-weights.json"


def _begun(run: Run, store: Store) -> bool:
    """Return whether a run of the experiment has a checkpoint, or another is running: else nothing used the files."""
    work = store.runs / "work"
    others = set(work.glob(f"{run.experiment.identity}-r*/lease.json")) - {store.paths(run).lease}
    return bool(others) or any(work.glob(f"{run.experiment.identity}-r*/*checkpoint.pt"))


def _earlier(run: Run, store: Store) -> Iterator[tuple[Path, dict[str, str]]]:
    note = _note(run, store)
    if note.is_file() and _begun(run, store):
        yield note, json.loads(note.read_text())
    given = not isinstance(run.experiment.teacher, Experiment)  # a teacher trained by the plan has a record of its own
    for path in sorted(store.paths(run).record.parent.glob("r*.json")):
        record = read_record(path)
        if isinstance(record, Record) and record.identity == run.experiment.identity and record.status != "skipped":
            known = {whose: file["sha256"] for whose, file in record.weight_files.items()}
            used = record.teacher
            if given and used is not None and used.weights_sha256 is not None and used.stand_in is None:
                known[_TENSORS] = used.weights_sha256
            yield path, known
