"""A record's run made again from the record alone, and compared with it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from benchmark.data.available import images_for
from benchmark.errors import BenchmarkError
from benchmark.launch.local import Local
from benchmark.plan.experiment import Plan, Run
from benchmark.records.rebuild import experiment_of
from benchmark.records.store import Record, Store
from benchmark.train.settings import Compile, Request, Settings


@dataclass(frozen=True)
class Rerun:
    """A finished rerun and how it compares with its record."""

    label: str
    identity: str
    equal: bool  # the whole outcome, bit for bit
    differs: dict[str, str] = field(default_factory=dict)  # values of the outcome, and by how much
    circumstances: dict[str, str] = field(default_factory=dict)  # that are not the same, and may explain it

    def text(self) -> str:
        """Format for a terminal."""
        head = f"{self.label} ({self.identity}): {'equal bit for bit' if self.equal else 'DIFFERS'}"
        lines = [f"  {name}: {how}" for name, how in self.differs.items()]
        lines += [f"  {'although' if self.equal else 'under'} another {what}" for what in self.circumstances.values()]
        return "\n".join((head, *lines))


def settings_like(record: Record, to: Path, settings: Settings) -> Settings:
    """Return the settings under which a record's bits can come out again; those of the user that are given win."""
    compiled: Compile = "always" if record.effective.step == "compiled" else "never"
    threads = settings.threads or record.effective.threads
    return replace(settings, store=Store(to / "results", to / "runs"), threads=threads, compile=compiled, pack=1)


def rerun(record: Record, path: Path, to: Path, settings: Settings) -> Rerun:
    """Make a record's run again in the folder `to`, its teacher first, and compare.

    Raises:
        BenchmarkError: the record does not say enough, or data, weights or packages are not there.
    """
    run = Run(experiment_of(record, path), record.repetition)
    chain = [run]
    while (teacher := chain[-1].teacher) is not None:
        chain.append(teacher)
    plan = Plan(runs=[*reversed(chain)])
    names = {each.experiment.data.name for each in plan.runs}
    asked = settings_like(record, to, settings)
    source = images_for(names, settings.data_dir, stand_ins=False)
    asked = replace(asked, source=source, request=Request(("rerun", str(path))))
    outcome = Local(asked).execute(plan)
    if outcome.stopped:
        raise KeyboardInterrupt  # as at the second Ctrl-C: nothing else that was asked for is begun
    for failed, reason in outcome.failed:
        raise BenchmarkError(f"{failed.label} cannot be run again: {reason}")
    again = asked.store.read(run)
    if again is None:
        raise BenchmarkError(f"{run.label} left no record that can be read")
    return compared(record, again, path.with_suffix(".pt"), asked.store.paths(run).student)


def compared(record: Record, again: Record, before: Path, after: Path) -> Rerun:
    """Compare two records of one run, and the weights where both files are there."""
    then, now = record.outcome(), again.outcome()
    differs = dict(_differences(then, now))
    if "weights_sha256" in differs and before.is_file() and after.is_file():
        differs["weights_sha256"] = _apart(before, after)
    return Rerun(record.label, record.identity, then == now, differs, dict(_circumstances(record, again)))


def _differences(then: dict[str, object], now: dict[str, object]) -> Iterator[tuple[str, str]]:
    for name in then:
        one, other = then[name], now[name]
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            for key in dict.fromkeys((*one, *other)):
                if one.get(key) != other.get(key):
                    yield f"{name} {key}", _numbers(one.get(key), other.get(key))
        else:
            yield name, _numbers(one, other)


def _numbers(then: object, now: object) -> str:
    if isinstance(then, int | float) and isinstance(now, int | float) and math.isfinite(then) and math.isfinite(now):
        return f"{then:g}, now {now:g} ({now - then:+.3g})"
    return f"{str(then)[:24]}, now {str(now)[:24]}"


def _apart(before: Path, after: Path) -> str:
    try:
        one, other = (torch.load(path, map_location="cpu", weights_only=True) for path in (before, after))
    except Exception as error:  # torch, zipfile and pickle raise of many kinds about a damaged file
        return f"{before} cannot be compared ({type(error).__name__})"
    if one.keys() != other.keys():
        return "tensors of other names"
    most = max(float((one[name].double() - other[name].double()).abs().max()) for name in one if one[name].numel())
    return f"the largest difference of a weight is {most:.3g}"


def _circumstances(then: Record, now: Record) -> Iterator[tuple[str, str]]:
    facts = {
        "source": (then.code.source_sha256, now.code.source_sha256),
        "processor": (then.hardware.accelerator, now.hardware.accelerator),
        "instruction set": (then.hardware.instructions, now.hardware.instructions),
        "number of threads": (then.effective.threads, now.effective.threads),
        "device": (then.effective.device, now.effective.device),
        "step": (then.effective.step, now.effective.step),
        "number of processes": (then.effective.processes, now.effective.processes),
    }
    for name, (one, other) in facts.items():
        if one and one != other:
            yield name, f"{name}: {one} then, {other} now"
    for name in then.packages.keys() & now.packages.keys():
        if then.packages[name] != now.packages[name]:
            yield name, f"version of {name}: {then.packages[name]} then, {now.packages[name]} now"
