"""Measured speed: images per second of each pair and method, alone and packed, and each part's share of a step."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from benchmark.bench.step_cost import WARM_UP, Circumstances, Contestant, circumstances, counted_macs, parse_pair
from benchmark.errors import CannotServe
from benchmark.launch.packed import Advance, Turns
from benchmark.machine.files import write_text
from benchmark.machine.saying import Say
from benchmark.models.registry import model
from benchmark.paper.suite import Suite
from benchmark.plan.estimate import Measured, hardware_of, key_of, plan_seconds
from benchmark.plan.experiment import Selection, make_plan
from benchmark.records.store import Store
from benchmark.report.markdown_table import markdown_table
from benchmark.train import precision
from benchmark.train.settings import Compile, Settings

COPIED_BYTES = 2**28
MATRIX = 2048

PairAndMethod = tuple[str, str]  # pair, method


@dataclass(frozen=True)
class Speed:
    """The speed of one pair and method. Rates are images per second; shares are of an eager step's time."""

    pair: str
    method: str
    batch: int
    key: str  # `key_of` the experiment, by which estimates find the rate
    step: str  # eager or compiled, with or without CUDA graphs
    alone: float
    packed: float  # sum over all runs that take turns
    shares: dict[str, float]  # of teacher, student, method, augmentation, optimiser
    gflops: float  # 10^9 operations per second alone, two for each counted multiply-add
    of_matrix_rate: float  # these as a share of the device's rate of matrix products


@dataclass
class Speeds:
    """All measured speeds, and the hardware."""

    device: str
    threads: int
    pack: int
    steps: int
    copy_gb_per_second: float
    matrix_gflops: float
    speeds: list[Speed] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    suite_hours: dict[str, dict[str, float]] = field(default_factory=dict)  # suite -> alone, packed, share measured
    circumstances: Circumstances = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Return all fields as plain JSON."""
        return asdict(self)

    def measured(self) -> Measured:
        """Return the rates that estimates need."""
        return Measured(hardware_of(self.device, self.threads), {s.key: s.alone for s in self.speeds})


def measure(
    cases: Sequence[PairAndMethod], batch: int, steps: int, pack: int, compile: Compile, settings: Settings, say: Say
) -> Speeds:
    """Measure every case, one after the other. Methods that cannot serve their pair are skipped, with the reason."""
    device = torch.device(settings.device)
    found = Speeds(
        settings.device, torch.get_num_threads(), pack, steps, copy_rate(device) / 1e9, matrix_rate(device) / 1e9
    )
    found.circumstances = circumstances(settings.device)
    with tempfile.TemporaryDirectory() as folder:
        place = Store(Path(folder) / "results", Path(folder) / "runs")
        asked = replace(settings, store=place, compile=compile)
        for pair, method in cases:
            say(f"measuring {pair} {method}")
            try:
                found.speeds.append(_speed(pair, method, batch, steps, pack, asked, found.matrix_gflops))
            except CannotServe as reason:
                found.skipped[f"{pair} {method}"] = reason.message
    return found


def _speed(pair: str, method: str, batch: int, steps: int, pack: int, settings: Settings, matrix: float) -> Speed:
    networks = parse_pair(pair)
    weights = settings.store.runs / f"{networks[0]}.pt"
    if not weights.exists():
        weights.parent.mkdir(parents=True, exist_ok=True)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            torch.save(model(networks[0]).build(100).state_dict(), weights)
    made = [Contestant(method, networks, batch, weights, settings) for _ in range(pack)]
    for contestant in made:
        contestant.training.choose_step()
    first = made[0].training
    alone = _images_per_second(made[:1], batch, steps)
    packed = _images_per_second(made, batch, steps) if pack > 1 else alone
    flops = 2 * counted_macs(method, networks, batch) * alone / 1e9
    return Speed(
        pair=pair,
        method=method,
        batch=batch,
        key=key_of(first.run_id.experiment),
        step=first.stepper.kind + (", CUDA graphs" if first.graphs is not None else ""),
        alone=round(alone, 1),
        packed=round(packed, 1),
        shares={name: round(share, 3) for name, share in shares(made[0], steps).items()},
        gflops=round(flops, 1),
        of_matrix_rate=round(flops / matrix, 3),
    )


def _images_per_second(contestants: Sequence[Contestant], batch: int, steps: int) -> float:
    """Return the images per second of all contestants together, which take turns step by step."""
    first = contestants[0]
    turns = Turns(len(contestants), first.training.device, print)

    def work(contestant: Contestant) -> Advance:
        while True:
            contestant.training.one_step(contestant.plan)
            yield

    for contestant in contestants:
        turns.add(contestant.training.run_id, work(contestant))
    for _ in range(WARM_UP):
        turns.advance()
    first.wait()
    began = time.perf_counter()
    for _ in range(steps):
        turns.advance()
    first.wait()
    seconds = time.perf_counter() - began
    turns.close()
    return len(contestants) * batch * steps / seconds


def shares(contestant: Contestant, rounds: int) -> dict[str, float]:
    """Return each part's share of an eager step's time.

    All parts but the method are timed alone. The method's share is the remainder, at least 0.
    """
    training = contestant.training
    parts, stepper, plan = training.parts, training.stepper, contestant.plan
    graphs, compiled = training.graphs, stepper.compiled
    training.graphs, stepper.compiled = None, None
    batch = training.data.batch(plan, 0, training.recipe.batch)
    student, task = parts.distiller.student, parts.distiller.task_loss

    def teach() -> None:
        if parts.frozen is not None:
            with precision.autocast(stepper.precision, stepper.device), torch.no_grad():
                parts.frozen(batch.inputs)

    def learn() -> None:
        with precision.autocast(stepper.precision, stepper.device):
            loss = task(student(batch.inputs), batch)
        loss.backward()  # type: ignore[no-untyped-call]

    timed: dict[str, Callable[[], object]] = {
        "whole": lambda: training.one_step(plan),
        "optimiser": parts.optimizer.step,  # follows a whole step in this order, whose gradients it uses
        "teacher": teach,
        "augmentation": lambda: training.data.batch(plan, 0, training.recipe.batch),
        "student": learn,
    }
    times: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(rounds + 1):
        for name, call in timed.items():
            with training.arithmetic():
                contestant.wait()
                began = time.perf_counter()
                call()
                contestant.wait()
            if number:
                times[name].append(time.perf_counter() - began)
    training.graphs, stepper.compiled = graphs, compiled
    middle = {name: statistics.median(values) for name, values in times.items()}
    whole = middle.pop("whole")
    found = {name: middle[name] / whole for name in ("teacher", "student", "augmentation", "optimiser")}
    return found | {"method": max(0.0, 1 - sum(found.values()))}


def copy_rate(device: torch.device, times: int = 5) -> float:
    """Return the bytes read and written per second by the fastest of some large copies."""
    source = torch.ones(COPIED_BYTES // 4, device=device)
    target = torch.empty_like(source)
    return 2 * COPIED_BYTES / _quickest(lambda: target.copy_(source), device, times)


def matrix_rate(device: torch.device, times: int = 5) -> float:
    """Return the floating-point operations per second of the fastest of some float32 matrix products."""
    a, b = torch.ones(MATRIX, MATRIX, device=device), torch.ones(MATRIX, MATRIX, device=device)
    with precision.arithmetic("fp32"):
        return 2 * MATRIX**3 / _quickest(lambda: a @ b, device, times)


def _quickest(call: Callable[[], object], device: torch.device, times: int) -> float:
    best = float("inf")
    for _ in range(times + 1):
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return best


def cases_of(suites: Sequence[Suite]) -> list[PairAndMethod]:
    """Return every pair and method that the suites train on CIFAR images."""
    experiments = [e for suite in suites for e in make_plan([suite], Selection()).experiments.values()]
    wanted = [e for e in experiments if e.data.name == "cifar100" and e.teacher is not None and e.recipe is not None]
    return list(dict.fromkeys((e.pair, e.method.name) for e in wanted))


def suite_hours(suites: Sequence[Suite], found: Speeds) -> dict[str, dict[str, float]]:
    """Estimate the hours of each suite that can run, one run at a time and packed, and the share of measured runs."""
    measured = found.measured()
    gains = [speed.packed / speed.alone for speed in found.speeds]
    gain = statistics.median(gains) if gains else 1.0
    hours: dict[str, dict[str, float]] = {}
    for suite in suites:
        plan = make_plan([suite], Selection())
        if not plan.runs:
            continue  # no cell of this suite can be run now
        alone = plan_seconds(plan, found.device.split(":")[0], measured) / 3600
        known = sum(measured.rate(run.experiment) is not None for run in plan.runs)
        share = known / len(plan.runs)
        hours[suite.name] = {"alone": round(alone, 2), "packed": round(alone / gain, 2), "measured": round(share, 2)}
    return hours


def keep(found: Speeds, runs: Path) -> Path:
    """Write the rates to the file that `plan` and `run` read, and return its path.

    Other rates in the file are kept if they were measured on this hardware.
    """
    path = runs / "speed.json"
    measured = found.measured()
    before = Measured.read(runs)
    rates = before.rates if before is not None and before.hardware == measured.hardware else {}
    write_text(path, json.dumps({"hardware": measured.hardware, "rates": rates | measured.rates}, indent=1) + "\n")
    return path


def markdown(found: Speeds) -> str:
    """Format tables of rates, shares and hours."""
    hardware = found.circumstances.get("hardware", {})
    parts = ("teacher", "student", "method", "augmentation", "optimiser")
    heads = ("pair", "method", "step", "images/s alone", "packed", *parts, "of matrix rate")
    speeds = [
        (
            speed.pair,
            speed.method,
            speed.step,
            f"{speed.alone:.0f}",
            f"{speed.packed:.0f}",
            *(f"{speed.shares[part]:.0%}" for part in parts),
            f"{speed.of_matrix_rate:.0%}",
        )
        for speed in found.speeds
    ]
    suites = [
        (name, f"{hours['alone']:.1f}", f"{hours['packed']:.1f}", f"{hours['measured']:.0%}")
        for name, hours in found.suite_hours.items()
    ]
    lines = [
        f"### Speed on {hardware.get('gpu', hardware.get('cpu', found.device))}, {found.threads} threads",
        "",
        f"Copies {found.copy_gb_per_second:.1f} GB/s, float32 matrix products {found.matrix_gflops:.0f} GFLOP/s; "
        f"{found.steps} steps each, {found.pack} runs packed.",
        "",
        markdown_table(heads, speeds),
        "",
        markdown_table(("suite", "hours alone", "packed", "runs measured"), suites),
        "",
        "- Shares are of an eager step; the method has what the other parts leave.",
        "- Hours of what was not measured follow from multiply-adds, scaled to what was.",
    ]
    lines += [f"- {name} is left out: {reason}" for name, reason in found.skipped.items()]
    return "\n".join(lines) + "\n"
