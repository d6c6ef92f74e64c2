"""Training trajectories of the authors' own code, the start that they share, and the same steps by the engine.

tests/golden/README.md says what a file holds and how random numbers are named.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from draws import ScriptedMoment
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from benchmark.data.batches import EvaluationBatch
from benchmark.paper.recipe import Recipe
from benchmark.paper.suite import TeacherSpec
from benchmark.plan.experiment import Data, Experiment, Run
from benchmark.records.store import Store
from benchmark.train.classification.assembly import assembled
from benchmark.train.engine.step import Stepper
from benchmark.train.meter import Meter
from methods.base import Batch
from methods.spec import MethodSpec

FOLDER = Path(__file__).parents[1] / "golden" / "trajectories"
CLASSES, SAMPLES, EPOCHS, STEPS = 20, 40, 240, 10
STATISTICS = ("running_mean", "running_var")

DIFFKD = {
    "student_projection.": "trans.",
    "autoencoder.encoder.": "ae.encoder.",
    "autoencoder.decoder.": "ae.decoder.0.",
    "adapter.features.": "noise_adapter.feat.",
    "adapter.choice.": "noise_adapter.pred.",
    "predictor.time_embedding.": "model.time_embedding.",
    "predictor.layers.": "model.pred.",
    "output_projection.": "proj.",
}
REVIEWKD = {"reduce.": "conv1.", "attend.": "att_conv.0.", "expand.": "conv2."}
DIFFKD_TERMS = {"distillation": "distance", "diffusion": "diffusion", "autoencoder": "reconstruction"}  # of a branch
CRD_CONSTANTS = "buffers/contrast.params"  # negatives, temperature, the two scales, momentum
# By method: our name of each tensor of its side networks, or its beginning -> the source's side network and name.
SIDE_NETWORKS: Mapping[str, Mapping[str, str]] = {
    "diffkd": {
        f"branches.{branch}.{ours}": f"{branch}/{theirs}"
        for branch, (ours, theirs) in product(("feature", "logits"), DIFFKD.items())
    },
    "mse": {"projections.0.": "align/"},
    "fitnet": {"regressors.0.": "conv_reg/"},
    "reviewkd": {
        f"blocks.{block}.{ours}": f"abfs/{block}.{theirs}"
        for block, (ours, theirs) in product(range(4), REVIEWKD.items())
    },
    "ofd": {f"connectors.{depth}.connect.": f"connectors/connectors.{2 - depth}." for depth in range(3)},
    "vid": {
        f"regressors.{stage}.{ours}": f"criteria/{stage}.{theirs}"
        for stage, (ours, theirs) in product(range(3), {"mean.": "regressor.", "log_scale": "log_scale"}.items())
    },
    "crd": {
        "embed_student.": "embed_s/linear.",
        "embed_teacher.": "embed_t/linear.",
        "memory_student": "buffers/contrast.memory_v1",
        "memory_teacher": "buffers/contrast.memory_v2",
    },
}


def uniform(name: str, *shape: int) -> Tensor:
    """Draw uniform numbers from the stream of this name."""
    generator = torch.Generator().manual_seed(crc32(name.encode()))
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def normal(name: str, *shape: int) -> Tensor:
    """Draw nearly normal numbers: twelve uniform ones each, added in this order."""
    first, *others = uniform(name, 12, *shape)
    total = first.clone()
    for part in others:
        total += part
    return total - 6


def start_value(owner: str, name: str, shape: Sequence[int]) -> Tensor:
    """Return the values that a parameter, a memory or one of the teacher's running statistics starts with."""
    if "memory" in name:
        rows = uniform(f"{owner}/{name.partition('.')[2]}", *shape)
        return nn.functional.normalize(2 * rows - 1, dim=1)
    u = uniform(f"{owner}/{name}", *shape)
    if name.endswith(STATISTICS):
        return u - 0.5 if name.endswith("mean") else u + 0.5
    if name.endswith("log_scale"):
        return torch.full(shape, 5 - 1e-5, dtype=torch.float64).expm1().log()
    u = 2 * u - 1
    if len(shape) == 1:
        return 0.1 * u + name.endswith("weight")
    if name.endswith("embedding.weight"):
        return u
    return u * (6 * shape[0] / u.numel()) ** 0.5


def batch(step: int) -> Batch:
    """Return the batch of a step, which counts from 1."""
    images = normal(f"inputs/{step}", 8, 3, 16, 16) + 2 * normal(f"tints/{step}", 8, 3, 1, 1)
    return Batch(images, (CLASSES * uniform(f"targets/{step}", 8)).long(), 5 * torch.arange(8) + (step - 1) % 5)


class Images:
    """The data set behind the batches, as far as a run's networks are built from it."""

    classes = CLASSES
    labels = torch.arange(SAMPLES)  # each sample a class of its own: CRD's negatives are all others, as in the source
    identity: Mapping[str, object] = {"name": "trajectories"}

    def __len__(self) -> int:
        return SAMPLES

    def example(self) -> Tensor:
        return batch(1).inputs[:2]

    def evaluation_batches(self) -> Iterator[EvaluationBatch]:
        first = batch(1)
        yield EvaluationBatch(first.inputs, first.targets, first.indices, torch.ones(8, dtype=torch.bool))


class Trajectory:
    """One file of reference values."""

    def __init__(self, name: str) -> None:
        content = json.loads((FOLDER / f"{name}.json").read_text())
        self.options: dict[str, Any] = content["options"]
        self.optimizer: dict[str, Any] = content["optimizer"]
        self.term_weights: dict[str, float] = content["term_weights"]
        self.side_start = _flat(content["side_start"])
        self.steps: list[dict[str, Any]] = content["steps"]
        self.states = {
            int(step): _flat({"student": state["student"], **state["side"]})
            for step, state in content["states"].items()
        }

    def recipe(self) -> Recipe:
        """Return the recipe of its optimiser."""
        vectors = self.optimizer["decay_of_vectors"]
        given = {name: self.optimizer[name] for name in ("lr", "momentum", "weight_decay", "nesterov")}
        smoothing = self.options.get("label_smoothing", 0.0)
        shape = {"epochs": EPOCHS, "batch": 8, "schedule": "constant"}
        return Recipe(**shape, **given, decay_vectors=vectors, label_smoothing=smoothing)

    def epochs_done(self, step: int) -> float:
        """Return the number of epochs that are done when a step is taken; mdistiller counts them from 1."""
        return float(self.options.get("epochs", [1] * STEPS)[step - 1] - 1)

    def draws(self, step: int) -> tuple[list[Tensor], list[Tensor]]:
        """Return the noise of a step and its whole numbers, in the order in which our methods ask for them."""
        normals, integers = [], []
        for key, drawn in self.steps[step - 1].get("draws", {}).items():
            branch, _, kind = key.partition(".")
            if kind == "timesteps":
                integers.append(torch.tensor(drawn))
            elif kind:
                normals.append(normal(f"{kind}/{step}/{branch}", *drawn["shape"]))
            elif key == "negatives":  # what is drawn counts the samples without a row's own
                chosen, own = torch.tensor(drawn), batch(step).indices[:, None]
                integers.append(chosen - (chosen > own).long())
        return normals, integers


class Replay:
    """The steps of a trajectory taken by the engine, and how far each value is from the source's."""

    def __init__(self, trajectory: Trajectory, method: object, folder: Path, teacher: str) -> None:
        """Build a run's networks, method and optimiser. Every tensor starts with the source's value."""
        self.trajectory = trajectory
        self.spec = MethodSpec.parse(method)
        given = TeacherSpec(model="trajectory_teacher", weights=str(folder / f"{teacher}.pt"))
        experiment = Experiment(
            task="classification",
            data=Data("trajectories"),
            student="trajectory_student",
            student_weights=str(folder / "student.pt"),
            method=self.spec,
            recipe=trajectory.recipe(),
            teacher=given if self.spec.needs_teacher else None,
            profile="smoke",
        )
        device = torch.device("cpu")
        self.parts = assembled(Run(experiment, 0), Images(), Store(folder / "results", folder / "runs"), device)
        self.student, self.method = self.parts.distiller.student.network, self.parts.distiller.method.double()
        self.parts.moment = self.moment = ScriptedMoment(**vars(self.parts.moment))
        self.stepper = Stepper(self.parts, trajectory.recipe(), experiment.precision, device)
        self.meter = Meter(device)
        self.deviations: dict[tuple[int, str], float] = {}
        with torch.no_grad():
            for name, tensor in self._sides().items():
                if not name.endswith(STATISTICS):
                    tensor.copy_(start_value("side", name, tensor.shape))
        self._compare_tensors(0, trajectory.side_start, self._sides())

    def take(self, step: int) -> None:
        """Take a step, which counts from 1, and compare what it computed and what the weights have become."""
        reference = self.trajectory.steps[step - 1]
        self.moment.normals[:], self.moment.drawn_integers[:] = self.trajectory.draws(step)
        self.meter.reset()
        self.stepper.step(batch(step), self.trajectory.epochs_done(step), self.meter, step - 1)
        assert self.moment.is_used_up()
        found = {"total": self.meter.means()["total"], **self._terms(), **self._gradients()}
        terms = {name: self.trajectory.term_weights[name] * value for name, value in reference["terms"].items()}
        norms = {f"gradient of {name}": value for name, value in reference["grad_norm"].items()}
        expected = {"total": reference["total"], **terms, **norms}
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            self.deviations[step, name] = abs(found[name] - value) / abs(value)
        if step in self.trajectory.states:
            state = {f"student/{name}": tensor for name, tensor in self.student.state_dict().items()}
            self._compare_tensors(step, self.trajectory.states[step], state | self._sides())

    def worst(self, *steps: int, losses_only: bool = False) -> tuple[float, tuple[int, str]]:
        """Return the largest deviation in these steps (all, if none is named), and the step and value that has it."""
        return max(
            (deviation, place)
            for place, deviation in self.deviations.items()
            if place[0] in (steps or range(STEPS + 1)) and not (losses_only and place[1].startswith("state"))
        )

    def _terms(self) -> dict[str, float]:
        """Return the weighted terms of the last step under the source's names."""
        means = {name: value for name, value in self.meter.means().items() if not name.endswith("gamma")}
        task = {"task": means.pop("task") * getattr(self.method.options, "task_weight", 1.0)}
        del means["total"]
        if self.spec.name == "diffkd":
            parted = {name.rpartition(".")[::2]: value for name, value in means.items()}
            return task | {f"{branch}.{DIFFKD_TERMS[term]}": value for (branch, term), value in parted.items()}
        return task | ({"distillation": sum(means.values())} if means else {})

    def _gradients(self) -> dict[str, float]:
        """Return the gradient's norm over the student and over each side network."""
        found: dict[str, list[Tensor]] = {"student": [p.grad for p in self.student.parameters() if p.grad is not None]}
        for name, tensor in self._sides().items():
            if tensor.grad is not None:
                found.setdefault(name.partition("/")[0], []).append(tensor.grad)
        return {f"gradient of {name}": float(get_total_norm(gradients)) for name, gradients in found.items()}

    def _sides(self) -> dict[str, Tensor]:
        """Return parameters, statistics and memories of the side networks under the source's names."""
        names, found = SIDE_NETWORKS.get(self.spec.name, {}), {}
        for name, tensor in (*self.method.named_parameters(), *self.method.named_buffers()):
            ours = next((ours for ours in names if name.startswith(ours)), None)
            if ours is not None and not name.endswith("num_batches_tracked"):
                found[names[ours] + name.removeprefix(ours)] = tensor
        return found

    def _compare_tensors(self, step: int, expected: Mapping[str, list[float]], found: Mapping[str, Tensor]) -> None:
        """Compare fingerprints: the sum, the L2 norm and the first four values."""
        for name, (total, norm, *first) in expected.items():
            if "noise_adapter" in name and not getattr(self.method.options, "noise_matching", True):
                continue  # ours is not made; in the source it is left without a gradient
            if name == CRD_CONSTANTS:
                if step == 0:
                    continue  # the source has -1 where ours has 0: not set yet
                o = self.method.options
                scales = float(self.method.scale_student), float(self.method.scale_teacher)
                tensor = torch.tensor([o.negatives, o.temperature, *scales, o.momentum])
            else:
                tensor = found[name].detach().contiguous().flatten()
            ours = [float(tensor.sum()) / tensor.numel() ** 0.5, float(tensor.norm()), *tensor[:4].tolist()]
            theirs = [total / tensor.numel() ** 0.5, norm, *first]
            difference = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
            self.deviations[step, f"state of {name}"] = difference / norm if norm else difference


def fingerprint(tensor: Tensor) -> list[float]:
    """Return the sum, the L2 norm and the first four values."""
    flat = tensor.detach().contiguous().flatten()
    return [float(flat.sum()), float(flat.norm()), *flat[:4].tolist()]


def _flat(tensors: Mapping[str, Mapping[str, list[float]]]) -> dict[str, list[float]]:
    return {f"{module}/{name}": values for module, named in tensors.items() for name, values in named.items()}
