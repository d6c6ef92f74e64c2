"""Captured steps: nothing in them reads the device, and replaying them is training. What needs a GPU skips without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small import settings_in
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark.data.random_images import noise
from benchmark.errors import CannotServe
from benchmark.models.registry import model
from benchmark.plan.experiment import Run
from benchmark.train.classification.training import Training
from benchmark.train.engine.graphs import Graphs, why_not
from benchmark.train.meter import Meter
from benchmark.train.settings import Settings, Stopped
from benchmark.train.trainer import record_from
from benchmark.verify.exported_students import experiment
from methods.kd import KD
from methods.registry import methods
from methods.sum import SumOfMethods

BATCH, IMAGES = 8, 20  # two full batches an epoch, and a short one
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a CUDA device")

# Operations whose result's shape or value the host must know.
READS = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "item", "_unique2", "unique_dim", "equal"}


class NoReading(TorchDispatchMode):
    """Notes every operation that would make the host wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in args[1] or ()
        )
        if name in READS or by_mask:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def run_in(folder: Path, method: str, epochs: int = 2) -> Run:
    path = folder / "teacher.pt"
    if not path.exists():
        torch.manual_seed(0)
        torch.save(model("resnet14").build(100).state_dict(), path)
    asked = experiment(method, "resnet8", "resnet14", path, BATCH)
    assert asked.recipe is not None
    return Run(replace(asked, recipe=asked.recipe.model_copy(update={"epochs": epochs})), 0)


def test_the_mode_sees_what_reads() -> None:
    with NoReading() as watched:
        x = torch.arange(3.0)
        x[x > 1]
        float(x.sum())
    assert len(watched.found) == 2


@pytest.mark.parametrize("name", sorted(methods()))
def test_no_step_reads_the_device(name: str, workplace: Path) -> None:
    try:
        training = Training(run_in(workplace, name), noise(IMAGES), settings_in(workplace))
    except CannotServe as reason:
        pytest.skip(reason.message)
    plan = training.data.epoch_plan(0, 0)
    training.one_step(plan)  # what is made once, momentum for instance, is made
    training.stepper.set_moment(0.5, training.meter, 1)
    with NoReading() as watched:
        training.stepper.update(training.data.augmented(plan[:BATCH]), training.meter)
    captured = not why_not(training.stepper, training.data)
    assert captured == (watched.found == []), f"{name}: capturable is {captured}, and it reads {watched.found}"


class Replayed:
    """What a CPU has for a graph: the work, done again. It reads the tensors that a graph would."""

    def __init__(self, work: Callable[[], None], generator: torch.Generator) -> None:
        self.replay = work


class Capturing(Training):
    """A training whose steps are replayed."""

    def choose_step(self) -> None:
        self.graphs = Graphs(self.stepper, self.data, self.meter, Replayed, lambda work: work())


def outcome(kind: type[Training], folder: Path, settings: Settings, method: str) -> Any:
    return record_from(kind(run_in(folder, method), noise(IMAGES), settings).advancing()).outcome()


@pytest.mark.parametrize("method", ["none", "diffkd", "crd"])
def test_replayed_steps_are_training(method: str, workplace: Path) -> None:
    plain = outcome(Training, workplace, settings_in(workplace), method)
    other = settings_in(workplace)
    other.store = replace(other.store, results=workplace / "b", runs=workplace / "c")
    assert outcome(Capturing, workplace, other, method) == plain


def test_replayed_steps_go_on_from_a_checkpoint(workplace: Path) -> None:
    plain = outcome(Training, workplace, settings_in(workplace), "diffkd")
    other = settings_in(workplace)
    other.store = replace(other.store, results=workplace / "b", runs=workplace / "c")
    other.stop.set()
    for _ in range(2):
        with pytest.raises(Stopped):
            outcome(Capturing, workplace, other, "diffkd")
    other.stop.clear()
    assert outcome(Capturing, workplace, other, "diffkd") == plain


class Willing(Training):
    """A training that replays its steps where a GPU would: unless there is a reason not to."""

    def choose_step(self) -> None:
        if not why_not(self.stepper, self.data):
            self.graphs = Graphs(self.stepper, self.data, self.meter, Replayed, lambda work: work())


@pytest.mark.parametrize("per_device", [None, BATCH // 2, BATCH])
def test_replayed_or_not_the_noise_of_a_stated_part_is_the_eager_one(per_device: int | None, workplace: Path) -> None:
    def losses(kind: type[Training]) -> dict[str, float]:
        run = run_in(workplace, "diffkd", epochs=1)
        assert run.experiment.recipe is not None
        recipe = run.experiment.recipe.model_copy(update={"per_device_batch": per_device})
        training = kind(Run(replace(run.experiment, recipe=recipe), 0), noise(BATCH * 2), settings_in(workplace))
        steps = training.advancing()
        for _ in range(2):
            next(steps)
        assert kind is Training or per_device is not None or training.graphs is not None
        return training.meter.means()

    assert losses(Willing) == losses(Training)


def test_a_capture_holds_two_sizes(workplace: Path) -> None:
    training = Capturing(run_in(workplace, "kd", epochs=1), noise(IMAGES), settings_in(workplace))
    record_from(training.advancing())
    assert training.graphs is not None
    assert set(training.graphs._captured) == {8, 4}


def test_what_cannot_be_captured_says_so(workplace: Path) -> None:
    training = Training(run_in(workplace, "kd"), noise(IMAGES), settings_in(workplace))
    assert why_not(training.stepper, training.data) == ""
    training.stepper.parts.distiller.method.capturable = False
    assert why_not(training.stepper, training.data) == "KD cannot be captured in a CUDA graph"
    other = Training(run_in(workplace, "none"), noise(IMAGES), settings_in(workplace))
    other.stepper.precision = "fp16"
    assert "fp16" in why_not(other.stepper, other.data)


def test_a_sum_can_be_captured_where_all_its_parts_can() -> None:
    class Other(KD):
        capturable = False

    assert SumOfMethods([KD()]).capturable
    assert not SumOfMethods([KD(), Other()]).capturable


@NEEDS_GPU
@pytest.mark.parametrize("method", ["none", "kd", "diffkd", "crd"])
def test_captured_steps_are_the_eager_ones_on_a_gpu(method: str, workplace: Path) -> None:
    found = {}
    for kind in ("never", "auto"):
        settings = replace(settings_in(workplace), device="cuda", compile=kind)  # type: ignore[arg-type]
        training = Training(run_in(workplace, method), noise(IMAGES, "cuda"), settings)
        steps = training.advancing()
        for _ in range(2 * training.steps - 1):
            next(steps)
        assert (training.graphs is not None) == (kind == "auto")
        found[kind] = training.meter.means()
        steps.close()
    assert found["auto"] == pytest.approx(found["never"], rel=1e-4)


@pytest.mark.parametrize(
    ("device", "precision", "tolerance"),
    [
        ("cpu", "bf16", 5e-2),
        pytest.param("cuda", "tf32", 1e-2, marks=NEEDS_GPU),
        pytest.param("cuda", "bf16", 5e-2, marks=NEEDS_GPU),
    ],
)
def test_lower_precision_stays_near_fp32(device: str, precision: str, tolerance: float, workplace: Path) -> None:
    totals = []
    for asked in ("fp32", precision):
        run = run_in(workplace, "none")  # an untrained teacher's scores say nothing of accuracy
        run = Run(replace(run.experiment, precision=asked), 0)  # type: ignore[arg-type]
        training = Training(run, noise(IMAGES, device), replace(settings_in(workplace), device=device))
        next(training.advancing())
        totals.append(training.meter.means()["total"])
    assert totals[1] == pytest.approx(totals[0], rel=tolerance)


def test_a_meter_is_read_only_when_asked() -> None:
    meter = Meter(torch.device("cpu"))
    with NoReading() as watched:
        for number in range(3):
            meter.number.fill_(number)
            meter.add({"a": torch.tensor(1.0)}, {"g": torch.tensor([0.1, 0.9])})
        meter.reset()
    assert watched.found == []
