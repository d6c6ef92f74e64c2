"""Revisions side by side: each trains the mini study in a shortened form, and the bits are compared.

A revision runs in a process of its own, by its own `run` command, with its own suites: so it may be as old as the first
record. What is compared are the records that the programs write.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from benchmark.data.finder import ENVIRONMENT
from benchmark.data.locate import OFFLINE, find_cifar100
from benchmark.errors import BenchmarkError, MissingInput
from benchmark.judge.bridges import Bridge, ground_of
from benchmark.launch.rerun import Rerun, compared
from benchmark.machine.plugins import EXTRA, ROOT
from benchmark.machine.provenance import git
from benchmark.paper.yamlfile import Loader
from benchmark.records.evidence import collect
from benchmark.records.store import Record, Store

Records = Mapping[str, Record]  # by identity

_LOG = "log.txt"
_STUDY = ("mini-teacher", "mini-choice", "mini-cifar100")
# Two epochs of five steps: the first ends the warm-ups of DKD and ReviewKD.
_SHORT = {"epochs": 2, "train": 320, "test": 200, "repetitions": 1}


@dataclass(frozen=True)
class Side:
    """A revision, the folder that has its code, and the one where it runs."""

    commit: str
    code: Path
    place: Path

    @property
    def name(self) -> str:
        """Return the beginning of the commit."""
        return self.commit[:7]


@dataclass(frozen=True)
class Crossing:
    """The comparison of two revisions."""

    before: str  # commits
    after: str
    bridges: tuple[Bridge, ...]
    differing: tuple[Rerun, ...]
    apart: tuple[str, ...]  # experiments that only one revision has

    def text(self) -> str:
        """Format for a terminal."""
        equal = Counter[str]()
        for bridge in self.bridges:
            equal.update(bridge.methods)
        found = f"{equal.total()} experiments are equal bit for bit ({', '.join(equal) or 'of no method'})"
        lines = [f"{self.before[:7]} and {self.after[:7]}: {found}"]
        lines += [line for one in self.differing for line in one.text().splitlines()]
        lines += [f"not compared, only {name}" for name in self.apart]
        return "\n  ".join(lines)


def commit_of(name: str) -> str:
    """Return the commit of a revision.

    Raises:
        MissingInput: this copy of the program has no history, or its history does not have the revision.
    """
    ours = git("ls-files", "benchmark/errors.py")  # else git answers for a repository around an installation
    found = git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}") if ours else None
    if found is None:
        why = f"the history of {ROOT} does not have it" if ours else f"{ROOT} has no history"
        raise MissingInput(f"no revision {name}: {why}", "git fetch --unshallow, or name another one: --from REV")
    return found


def commits_of_records(results: Path) -> tuple[list[str], int]:
    """Return the commits under which records were made, the first one first, and the number of records without."""
    runs = sorted(collect((results,)).runs.values(), key=lambda run: run.record.finished)
    codes = [run.record.code for run in runs]
    commits = [code.commit for code in codes if code.commit and code.dirty is False]
    return list(dict.fromkeys(commits)), len(codes) - len(commits)


def cross(older: Sequence[str], newer: str | None, data_dir: Path | None, scratch: Path) -> list[Crossing]:
    """Compare older commits with a newer one, or with this program as it is, in the folder `scratch`.

    Raises:
        BenchmarkError: a revision cannot be checked out, or cannot run the study.
    """
    real = find_cifar100(data_dir)
    sides = [_checked_out(commit, scratch / str(number)) for number, commit in enumerate(older)]
    last = scratch / str(len(older))
    sides.append(_checked_out(newer, last) if newer else Side(git("rev-parse", "HEAD") or "this program", ROOT, last))
    with _processes() as processes:
        for side in sides:
            processes.append(_started(side, real.folder if real else None))
        for side, process in zip(sides, processes, strict=True):
            if process.wait():
                said = (side.place / _LOG).read_text(errors="replace").strip().splitlines()[-3:]
                raise BenchmarkError(f"{side.name} cannot run the study: {' / '.join(said)}", "run it in a checkout")
    form = f"{_SHORT['epochs']} epochs of {_SHORT['train']} images, {'CIFAR-100' if real else 'generated'}"
    *before, after = map(_records, sides)
    return [_compared(side, sides[-1], olds, after, form) for side, olds in zip(sides, before, strict=False)]


def _checked_out(commit: str, folder: Path) -> Side:
    """Return a revision in a checkout of its own. It borrows the objects of this one, in which nothing is left."""
    code = folder / "code"
    for words in (
        ("clone", "--quiet", "--shared", "--no-checkout", ROOT, code),
        ("-C", code, "checkout", "-q", commit),
    ):
        done = subprocess.run(["git", *map(str, words)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchmarkError(f"no checkout of {commit}: {done.stderr.strip()}", "git fetch --unshallow")
    return Side(commit, code, folder)


@contextmanager
def _processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Yield a list for processes. None of them is left after the block, also on Ctrl-C and SIGTERM."""
    started: list[subprocess.Popen[bytes]] = []
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()
        signal.signal(signal.SIGTERM, before)


def _started(side: Side, images: Path | None) -> subprocess.Popen[bytes]:
    """Start a revision's `run` of the shortened study."""
    side.place.mkdir(exist_ok=True)
    profile, more = ("mini", ("--data-dir", str(images.resolve()))) if images else ("smoke", ())
    suites = [path for name in _STUDY if (path := side.code / "suites" / f"{name}.yaml").is_file()]
    for path in suites:
        (side.place / path.name).write_text(_shortened(path.read_text(), profile))
    words = ("run", *(path.name for path in suites), "--device", "cpu", "--threads", "1", "--yes", *more)
    found = {name: value for name, value in os.environ.items() if name not in (EXTRA, ENVIRONMENT)}
    packages = os.pathsep.join(filter(None, (str(side.code), found.get("PYTHONPATH"))))
    with (side.place / _LOG).open("wb") as log:
        return subprocess.Popen(
            (sys.executable, "-m", "benchmark", *words),
            cwd=side.place,
            env=found | {"PYTHONPATH": packages, OFFLINE: "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _shortened(suite: str, profile: str) -> str:
    content = yaml.load(suite, Loader=Loader)
    content |= {"profile": profile, "profiles": {profile: _SHORT}}
    if "holdout" in content["setting"]:
        content["setting"]["holdout"] = _SHORT["test"]
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _records(side: Side) -> Records:
    found = collect(Store(side.place / "results", side.place / "runs").folders)
    return {run.record.identity: run.record for run in found.runs.values()}


def _compared(before: Side, after: Side, olds: Records, news: Records, form: str) -> Crossing:
    pairs = [(old, news[identity]) for identity, old in olds.items() if identity in news]
    reruns = [compared(old, new, Path(), Path()) for old, new in pairs]
    grounds: dict[tuple[str, str, str], dict[str, list[bool]]] = {}
    for (old, new), rerun in zip(pairs, reruns, strict=True):
        if new.status != "skipped":
            task, method, networks, computed = ground_of(old)
            grounds.setdefault((task, networks, computed), {}).setdefault(method, []).append(rerun.equal)
    commits = (before.commit, after.commit)
    return Crossing(
        *commits,
        bridges=tuple(_bridge(ground, methods, commits, pairs[0], form) for ground, methods in grounds.items()),
        differing=tuple(one for one in reruns if not one.equal),
        apart=(*_only(before, olds, news), *_only(after, news, olds)),
    )


def _bridge(
    ground: tuple[str, str, str],
    methods: Mapping[str, list[bool]],
    commits: tuple[str, str],
    pair: tuple[Record, Record],
    form: str,
) -> Bridge:
    old, new = pair
    task, networks, computed = ground
    return Bridge(
        before=old.code.source_sha256,
        after=new.code.source_sha256,
        commits=commits,
        task=task,
        networks=networks,
        computed=computed,
        methods={method: len(equal) for method, equal in sorted(methods.items()) if all(equal)},
        differing={method: equal.count(False) for method, equal in sorted(methods.items()) if not all(equal)},
        form=form,
        machine=f"{new.hardware.cpu}, {new.hardware.instructions}, torch {new.packages['torch']}",
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _only(side: Side, records: Records, others: Records) -> Iterator[str]:
    missing = (record for identity, record in records.items() if identity not in others)
    yield from (f"{side.name} has {record.label} ({record.identity})" for record in missing)
