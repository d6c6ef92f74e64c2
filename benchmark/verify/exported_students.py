"""The check that training exports the plain student. Every method is trained by the engine for two steps."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from benchmark.data.on_device import DeviceData
from benchmark.data.random_images import SIDE, noise
from benchmark.errors import BenchmarkError, CannotServe
from benchmark.machine.saying import Say
from benchmark.models import counting
from benchmark.models.registry import model
from benchmark.paper.recipe import recipe
from benchmark.paper.suite import TeacherSpec
from benchmark.plan.experiment import Data, Experiment, Run
from benchmark.records.store import Store
from benchmark.train.classification.training import Training
from benchmark.train.settings import Settings
from benchmark.train.trainer import record_from
from benchmark.verify.findings import Export, Findings
from methods.base import LOGITS
from methods.registry import methods
from methods.spec import MethodSpec

TEACHER, STUDENT = "resnet14", "resnet8"
BATCH = 16


def check(findings: Findings, say: Say) -> None:
    """Train each method for two steps, export, and compare with a plain student of the same weights."""
    data = noise()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "teacher.pt"
        torch.manual_seed(0)
        torch.save(model(TEACHER).build(data.classes).state_dict(), weights)
        for name in methods():
            say(f"exporting after {name}")
            try:
                findings.exports.append(_exported(name, weights, data, Path(folder)))
            except CannotServe as reason:
                findings.skip(f"export after {name}", reason.message)
            except BenchmarkError as error:
                findings.problems.append(f"export after {name}: {error.message}")
    findings.problems += [
        f"the student exported after {e.method} is not the plain one" for e in findings.exports if not e.equal
    ]


def experiment(method: str, student: str, teacher: str, weights: Path, batch: int = BATCH) -> Experiment:
    """Return an experiment of one epoch, whose teacher has the given weights."""
    spec = MethodSpec.parse(method)
    return Experiment(
        task="classification",
        data=Data("noise"),
        student=student,
        method=spec,
        recipe=recipe("A1").settings.model_copy(update={"epochs": 1, "batch": batch}),
        teacher=TeacherSpec(model=teacher, weights=str(weights)) if spec.needs_teacher else None,
        profile="smoke",
    )


def _exported(name: str, weights: Path, data: DeviceData, folder: Path) -> Export:
    run = Run(experiment(name, STUDENT, TEACHER, weights), 0)
    store = Store(folder / "results", folder / "runs")
    training = Training(run, data, Settings(store=store, checkpoint_seconds=3600, say=lambda text: None))
    record_from(training.advancing())
    with torch.device("meta"):
        plain = model(STUDENT).build(data.classes)
    state = torch.load(store.paths(run).student, weights_only=True)
    if _shapes(state) != _shapes(plain.state_dict()):
        return Export(name, params_equal=False, macs_equal=False, output_equal=False)
    shape = (1, 3, SIDE, SIDE)
    trained = training.parts.distiller.student.eval()
    exported = model(STUDENT).build(data.classes).eval()
    exported.load_state_dict(state)
    inputs = data.example()
    with torch.no_grad(), training.arithmetic():
        output_equal = torch.allclose(exported(inputs), trained(inputs)[LOGITS], rtol=1e-4, atol=1e-5)
    return Export(
        method=name,
        params_equal=counting.parameters(exported) == counting.parameters(plain),
        macs_equal=counting.macs(exported, shape) == counting.macs(plain, shape),
        output_equal=output_equal,
    )


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}
