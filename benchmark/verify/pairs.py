"""Checks of manifests, of experiments, and of every student, teacher and method of the suites.

Networks and methods are built and run on tensors without memory, "by shapes".
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchmark.errors import BenchmarkError, CannotServe, UsageError
from benchmark.machine.saying import Say
from benchmark.models.registry import models
from benchmark.models.taps import resolve_roles
from benchmark.paper import datasets
from benchmark.paper.manifest import load, suite_files
from benchmark.paper.readings import load_readings
from benchmark.paper.suite import Cell, Suite, method_of
from benchmark.plan.experiment import Selection, make_plan
from benchmark.verify import method_cost
from benchmark.verify.cost_check import names_of
from benchmark.verify.findings import Built, Findings, PairBuilt
from methods.base import Pair
from methods.spec import MethodSpec

BATCH = 4  # images in a pass by shapes


def lint(findings: Findings) -> list[Suite]:
    """Load every manifest and its readings. One with mistakes becomes a problem, and a manifest is then left out."""
    suites = []
    for path in suite_files():
        try:
            suites.append(load(path))
            load_readings(suites[-1])
        except UsageError as error:
            findings.problems.append(error.message)
    return suites


def resolve(findings: Findings, suites: Iterable[Suite]) -> None:
    """Resolve every experiment of every suite, all rows included, and count them."""
    plan = make_plan(suites, Selection(all_rows=True))
    findings.experiments = len(plan.experiments)
    for reason, count in sorted(Counter(_main_reason(*left_out) for left_out in plan.left_out).items()):
        findings.skip(f"experiments of {count} cells", reason)


def _main_reason(cell: Cell, reason: str) -> str:
    """Return the reason for leaving a cell out; a missing task or data set hides all other reasons."""
    whole = [marker for marker in cell.setting.pending or () if marker.startswith(("task ", "data "))]
    return f"not available yet: {', '.join(whole)}" if whole else reason


@dataclass(frozen=True)
class _Wanted:
    student: str
    teacher: str
    data: str
    method: str  # canonical JSON
    shown: str


def build(findings: Findings, suites: Iterable[Suite], say: Say) -> None:
    """Build each combination once: make networks and side networks, bind taps, compute a loss and its gradients."""
    wanted: Counter[_Wanted] = Counter()
    absent: Counter[str] = Counter()
    for suite in suites:
        for cell in suite.every_cell:
            reason = _why_not(cell)
            if reason:
                absent[reason] += 1
            elif cell.setting.subject != "teacher":
                wanted[_wanted(cell)] += 1
    known: dict[tuple[str, str, str], Pair] = {}
    for number, (item, cells) in enumerate(sorted(wanted.items(), key=lambda entry: repr(entry[0])), 1):
        say(f"building {number} of {len(wanted)}: {item.teacher} -> {item.student}, {item.shown}")
        built = _built(item, cells, known)
        findings.pairs.append(built)
        if built.outcome == "failed":
            findings.problems.append(f"{built.method} on {built.pair} ({built.data}): {built.reason}")
    for reason, count in sorted(absent.items()):
        findings.skip(f"pairs of {count} cells", reason)


def _why_not(cell: Cell) -> str:
    """Return the reason why a cell's pair cannot be built by shapes, or an empty string. No data set is needed."""
    setting = cell.setting
    if setting.data not in datasets.COUNTED:
        return f"no pass by shapes on {setting.data}: a run with --profile smoke takes real steps"
    names = [name for name in names_of(cell) if name is not None and name not in models()]
    if names:
        return f"not available yet: model {', model '.join(names)}"
    blocking = [marker for marker in setting.pending or () if marker.startswith(("method ", "option "))]
    return f"not available yet: {', '.join(blocking)}" if blocking else ""


def _wanted(cell: Cell) -> _Wanted:
    student, teacher = names_of(cell)
    assert student is not None and cell.setting.data is not None
    spec = method_of(cell.setting)
    written = spec.as_yaml()
    return _Wanted(
        student=student,
        teacher=teacher or "",
        data=cell.setting.data,
        method=json.dumps(written, sort_keys=True),
        shown=_shown(spec, written),
    )


def _shown(spec: MethodSpec, written: Mapping[str, object]) -> str:
    return spec.name if not any(written.values()) else json.dumps(written, sort_keys=True)


def _built(item: _Wanted, cells: int, known: dict[tuple[str, str, str], Pair]) -> PairBuilt:
    def found(outcome: Built, reason: str = "") -> PairBuilt:
        return PairBuilt(f"{item.teacher} -> {item.student}", item.data, item.shown, cells, outcome, reason)

    place = (item.student, item.teacher or item.student, item.data)
    try:
        if place not in known:
            known[place] = method_cost.pair_on_meta(*place)
            _check_taps(known[place])
        pair, method = known[place], MethodSpec.parse(json.loads(item.method)).make()
        method_cost.build_on_meta(method, pair)
        for shapes in (pair.student_shapes, pair.teacher_shapes):
            resolve_roles(method.taps, shapes)
        method_cost.method_cost(method, pair, BATCH)
    except CannotServe as reason:
        return found("cannot serve", reason.message)
    except (BenchmarkError, RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        return found("failed", f"{type(error).__name__}: {str(error).splitlines()[0]}")
    return found("built")


def _check_taps(pair: Pair) -> None:
    """Raise if a role that a family declares does not appear in a forward pass."""
    for network, shapes in ((pair.student, pair.student_shapes), (pair.teacher, pair.teacher_shapes)):
        silent = set(network.adapter.taps) - set(shapes)
        if silent:
            raise UsageError(
                f"no tensor passed the taps {sorted(silent)} in a forward pass",
                "correct the modules that the adapter of the network's family names",
            )
