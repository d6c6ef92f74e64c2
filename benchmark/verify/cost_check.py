"""The published costs: every static cell of the suites, compared with counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from benchmark.judge.rule_chain import judge_static
from benchmark.judge.verdicts import Verdict
from benchmark.machine.saying import Say
from benchmark.models import counting
from benchmark.models.registry import model, models
from benchmark.paper import datasets
from benchmark.paper.suite import Cell, Suite, TeacherSpec, method_of
from benchmark.plan.experiment import STATIC_METRICS
from benchmark.records.static import StaticCell
from benchmark.verify import method_cost, side_networks
from benchmark.verify.findings import Findings, NetworkCost
from methods.base import Pair
from methods.spec import MethodSpec

FVCORE_BELOW = 5_000_000_000  # multiply-adds of a network; above it, the second counter takes minutes
UNIT = {"m": 1e6, "g": 1e9}
ROLE = "fpn.0"
# The shape that section C.2 states for Table 12's feature. With it, the costs are counted without the detectors.
STATED_SHAPES = {"table12": (256, 80, 124)}
CRD_GATHERED = "rows that the loss reads"


def unit(metric: str) -> float:
    """Return the unit of a metric: 1e6 for `params_m`, 1e9 for `macs_g`."""
    return UNIT[metric.rpartition("_")[2]]


def names_of(cell: Cell) -> tuple[str | None, str | None]:
    """Return the names of a cell's student and teacher; None for one that the cell does not have."""
    teacher = cell.setting.teacher
    return cell.setting.student, teacher.model if isinstance(teacher, TeacherSpec) else teacher


def add_networks(findings: Findings, suites: Iterable[Suite], full: bool, say: Say) -> None:
    """Add the cost of every network that a suite names, once each.

    The input's shape is that of the network's data set; of several data sets the first in `datasets.COUNTED` is used.
    """
    wanted: dict[str, str] = {}
    order = list(datasets.COUNTED)
    for suite in suites:
        for cell in suite.cells:
            for name in names_of(cell):
                if name is None or cell.setting.data is None:
                    continue
                if name not in models():
                    findings.skip(f"model {name}", "not available yet")
                elif cell.setting.data in datasets.COUNTED:
                    wanted[name] = min(wanted.get(name, cell.setting.data), cell.setting.data, key=order.index)
    for name, data in sorted(wanted.items()):
        say(f"counting {name}")
        findings.networks.append(_network_cost(name, data, full, findings))


def _network_cost(name: str, data: str, full: bool, findings: Findings) -> NetworkCost:
    known = datasets.counted_on(data)
    network = counting.on_meta(name, known.classes).network
    shape = (1, *known.counted)
    macs = counting.macs(network, shape)
    second = None
    if full or macs < FVCORE_BELOW:
        try:
            second = counting.fvcore_macs(model(name).build(known.classes), shape)
        except ImportError:
            findings.skip("fvcore", "not installed, so torch's counter has no second opinion")
    else:
        findings.skip(f"fvcore on {name}", "5 G multiply-adds or more: --full counts it too")
    if second is not None and second != macs:
        findings.problems.append(f"{name}: torch counts {macs:,} multiply-adds, fvcore {second:,}")
    params, cirkd = counting.parameters(network), counting.cirkd_macs(network, shape)
    return NetworkCost(name, data, "x".join(map(str, shape)), params, macs, cirkd, second)


def add_cells(findings: Findings, suites: Iterable[Suite], say: Say) -> None:
    """Add every static cell, judged. Call `add_networks` first."""
    known = {network.model: network for network in findings.networks}
    for suite in suites:
        cells = [cell for cell in suite.cells if cell.metric in STATIC_METRICS and cell.printed is not None]
        if cells:
            say(f"judging the costs of {suite.name}")
        findings.cells += [_network_cell(cell, known) for cell in cells if not cell.metric.startswith("side_")]
        side = [cell for cell in cells if cell.metric.startswith("side_")]
        for metric in dict.fromkeys(cell.metric for cell in side):
            findings.cells += _side_cells([cell for cell in side if cell.metric == metric], findings)


def _network_cell(cell: Cell, known: Mapping[str, NetworkCost]) -> StaticCell:
    student, teacher = names_of(cell)
    name = (teacher if cell.setting.subject == "teacher" else student) or ""
    network = known.get(name)
    if network is None:
        return _not_verifiable(cell, name, f"{name} is not available yet")
    scale = unit(cell.metric)
    if cell.metric.startswith("params"):
        tried = {"parameters": network.params / scale}
        return _judged(cell, name, tried, network.params / scale, "all parameters, the auxiliary head's included")
    macs = network.macs / scale
    tried = {"macs": macs, "cirkd": network.cirkd / scale, "flops": 2 * macs}
    if judge_static(cell.printed or "", tried).verdict is not Verdict.EQUAL:
        # The paper prints 507.4 for 507.3466: it seems to have been rounded to 507.35 first.
        tried["cirkd, rounded twice"] = round(tried["cirkd"], cell.digits + 1)
    means = f"multiply-adds; cirkd counts {network.cirkd / network.macs - 1:+.1%}"
    return _judged(cell, name, tried, macs, means)


def _judged(
    cell: Cell, about: str, tried: Mapping[str, float], true: float, means: str, more: str = "", only: str = ""
) -> StaticCell:
    """Judge one static cell.

    Args:
        cell: the cell, with a printed number.
        about: the network or method that was counted.
        tried: the count by each convention, in the metric's unit.
        true: the count by this project's own convention, in the metric's unit.
        means: what the true count contains.
        more: text appended to the reason if `only` is given.
        only: the one convention to judge by, because all cells of a method must share one; empty: try every convention.
    """
    assert cell.printed is not None
    judgement = judge_static(cell.printed, {only: tried[only]} if only else tried)
    convention = judgement.convention or ""
    reason = judgement.reason
    if only:
        reason = f"{reason.removesuffix('; 1 convention tried')}; {more}"
    if judgement.verdict is not Verdict.EQUAL and _same_roundly(cell.printed, tried[convention]):
        reason += "; with its final zeros taken as rounding, it is the printed number"
    return StaticCell(
        cell=cell.id,
        printed=cell.printed,
        metric=cell.metric,
        about=about,
        verdict=judgement.verdict.value,
        reason=reason,
        convention=convention,
        value=_short(tried[convention]),
        true=_short(true),
        true_counts=means,
        tried={name: _short(value) for name, value in tried.items()},
    )


def _same_roundly(printed: str, value: float) -> bool:
    """Return True if the value, rounded to the digits before the printed number's final zeros, is that number."""
    kept = len(printed.rstrip("0"))
    return printed.isdigit() and printed.endswith("0") and float(f"{value:.{kept}g}") == float(printed)


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _not_verifiable(cell: Cell, about: str, reason: str) -> StaticCell:
    return StaticCell(cell.id, cell.printed or "", cell.metric, about, Verdict.NOT_VERIFIABLE.value, reason)


@dataclass(frozen=True)
class _Side:
    cell: Cell
    about: str
    tried: Mapping[str, float]
    true: float
    means: str


def _side_cells(cells: list[Cell], findings: Findings) -> Iterator[StaticCell]:
    """Yield the judged cells of one table and unit. All cells of a method are judged by the same convention."""
    counted: list[_Side] = []
    for cell in cells:
        student, teacher = names_of(cell)
        reason = _why_not(cell)
        if reason:
            yield _not_verifiable(cell, f"{teacher} -> {student}", reason)
        else:
            counted.append(_count_side(cell))
    for method in dict.fromkeys(side.about for side in counted):
        table = {side.cell.id: side for side in counted if side.about == method}
        tried = {name: side.tried for name, side in table.items()}
        printed = {name: side.cell.value for name, side in table.items() if side.cell.value is not None}
        best = side_networks.best_for_all(tried, printed)
        first = next(iter(table.values())).cell
        furthest = max(abs(tried[name][best] - value) for name, value in printed.items())
        size = f"{len(next(iter(tried.values())))} conventions tried"
        findings.tables[f"{first.suite}, {first.metric}, {method}"] = (
            f"{best}: at most {furthest:.3g} off over {len(table)} cell{'s' if len(table) > 1 else ''}; {size}"
        )
        for side in table.values():
            more = f"of {size} the one that comes nearest over all cells of the method"
            yield _judged(side.cell, side.about, side.tried, side.true, side.means, more, only=best)


def _why_not(cell: Cell) -> str:
    blocking = [m for m in cell.setting.pending or () if m.startswith("method ") or " predictor " in m]
    absent = [name for name in names_of(cell) if name not in models()]
    if blocking:
        return f"not available yet: {', '.join(blocking)}"
    return f"not available yet: {', '.join(map(str, absent))}" if absent and cell.suite not in STATED_SHAPES else ""


def pair_of(cell: Cell) -> Pair:
    """Return a cell's networks on the meta device, or a pair that has only the one shape that the paper states."""
    if cell.suite in STATED_SHAPES:
        return side_networks.bare_pair(ROLE, STATED_SHAPES[cell.suite])
    student, teacher = names_of(cell)
    assert student is not None and teacher is not None and cell.setting.data is not None
    return method_cost.pair_on_meta(student, teacher, cell.setting.data)


def _count_side(cell: Cell) -> _Side:
    spec, scale = method_of(cell.setting), unit(cell.metric)
    student, teacher = names_of(cell)
    if "diffkd" in spec.as_yaml():  # a sum with DiffKD: the added methods have no side networks
        spec = MethodSpec.parse({"diffkd": _options(spec)})
    about = f"{spec.name}, {teacher} -> {student}"
    if spec.name != "diffkd":
        return _count_other(cell, spec, about, scale)
    if cell.suite not in STATED_SHAPES and cell.suite != "section_c6":
        spec = MethodSpec.parse({"diffkd": {**_options(spec), "branches": ["feature"]}})
    pair = pair_of(cell)
    costs = side_networks.branch_costs(spec.make(), pair)
    if cell.metric.startswith("side_params"):
        tried = side_networks.parameter_counts(costs)
        means = "all side networks of one level of the pyramid"
        return _Side(cell, about, _scaled(tried, scale), tried[side_networks.PARAMETER_CONVENTIONS[-1]] / scale, means)
    tried = side_networks.added_up(costs)
    true = "all modules, T = 5" if "all modules, T = 5" in tried else "all feature modules, T = 5"
    means = "multiply-adds an image of all side networks at T = 5, forward"
    return _Side(cell, about, _scaled(tried, scale), tried[true] / scale, means)


def _options(spec: MethodSpec) -> dict[str, object]:
    return spec.as_yaml()["diffkd"]


def _scaled(values: Mapping[str, float], scale: float) -> dict[str, float]:
    return {name: value / scale for name, value in values.items()}


SIDE_BATCH = 32  # images: the batch of a device in B1


def _count_other(cell: Cell, spec: MethodSpec, about: str, scale: float) -> _Side:
    pair, method = pair_of(cell), spec.make()
    counted = method_cost.method_cost(method_cost.build_on_meta(method, pair), pair, SIDE_BATCH)
    tried: dict[str, float] = {
        "forward": counted.forward,
        "forward, operations": 2 * counted.forward,
        "forward and backward": counted.forward + counted.backward,
    }
    if spec.name == "crd":
        options = spec.resolved()["crd"]
        negatives, width = options["negatives"], options["width"]
        assert isinstance(negatives, int) and isinstance(width, int)
        rows = 2 * (1 + negatives) * width
        tried[CRD_GATHERED] = counted.parameters + rows  # two linear layers, and a product with each row read
    means = f"multiply-adds an image, forward, at batch {SIDE_BATCH}"
    return _Side(cell, about, _scaled(tried, scale), counted.forward / scale, means)
