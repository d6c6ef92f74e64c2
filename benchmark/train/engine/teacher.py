"""Teachers: found, checked, measured once, frozen and folded."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmark.data.batches import ClassificationData
from benchmark.data.imagefolder import ImageFolderData
from benchmark.errors import MissingInput, UsageError
from benchmark.machine.files import write_text
from benchmark.machine.ranks import ALONE, Ranks
from benchmark.machine.streams import initialising
from benchmark.models.checkpoints import WeightFile
from benchmark.models.fold import fold_batch_norms
from benchmark.models.registry import ModelEntry, model
from benchmark.models.taps import Network, untap
from benchmark.paper.datasets import GENERATED_FOLDER
from benchmark.paper.suite import Preparation, TeacherSpec
from benchmark.plan.experiment import Experiment, Run
from benchmark.records.store import Store
from benchmark.train.checkpoint import tensors_sha256
from benchmark.train.engine.testing import evaluate
from benchmark.train.precision import arithmetic, circumstances
from benchmark.train.weights import is_named, weights_file
from methods.base import LOGITS


@dataclass(frozen=True)
class Teacher:
    """A teacher's plain network, whose layers methods may read, and where its weights come from."""

    network: Network
    weights_sha256: str  # of its tensors
    origin: Mapping[str, str] | None  # their file's name and sha256; None: random, in a smoke run that does without

    @property
    def stands_in(self) -> bool:
        """Return True if random weights replace those that were asked for."""
        return self.origin is None

    @property
    def source(self) -> str:
        """Return the name of the weights' file, or `randomly initialised`."""
        return self.origin["file"] if self.origin is not None else "randomly initialised"

    def frozen(self) -> Network:
        """Return the network that runs beside the student: eval mode, no gradients, folded norms, channels last."""
        taps = self.network.adapter.taps
        kept = [taps[role].module for role in self.network.roles if taps[role].at == "output"]
        folded = fold_batch_norms(self.network.network, kept).to(memory_format=torch.channels_last)
        return Network(folded, self.network.adapter, self.network.roles).eval().requires_grad_(False)

    def in_train_mode(self) -> Network:
        """Return the network without gradients, whose norms take each batch's statistics, as OFD's source has it."""
        plain = copy.deepcopy(self.network.network).to(memory_format=torch.channels_last)
        untap(plain)
        return Network(plain, self.network.adapter, self.network.roles).train().requires_grad_(False)


def teacher_of(experiment: Experiment, data: ClassificationData, store: Store) -> Teacher:
    """Load an experiment's teacher for its data. In smoke runs, random weights replace a library's missing ones."""
    given = experiment.teacher
    assert given is not None
    stands_in: Literal["never", "if absent", "always"] = "never"
    if isinstance(given, TeacherSpec) and experiment.profile == "smoke" and is_named(given.weights):
        # Weights for ImageNet's thousand classes say nothing about the classes of generated images.
        stands_in = "always" if experiment.data.name == GENERATED_FOLDER else "if absent"
    example = data.example().cpu()
    teacher = load_teacher(given, data.classes, store, stands_in, example.shape[-1])
    if not teacher.stands_in:
        return teacher
    _settle(teacher.network.network, example)
    return replace(teacher, weights_sha256=tensors_sha256(teacher.network.network.state_dict()))


def _settle(network: nn.Module, images: Tensor) -> None:
    """Set the statistics of fresh batch norms from some images; without any, the values of deep maps overflow."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad(), arithmetic("fp32"), initialising("teacher", 0):
        network.train()(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


def load_teacher(
    teacher: Experiment | TeacherSpec,
    classes: int,
    store: Store,
    stands_in: Literal["never", "if absent", "always"] = "never",
    image_size: int = 224,
) -> Teacher:
    """Load the teacher that a record or a manifest names, on the CPU.

    Raises:
        MissingInput: its weights are not there, are not the pinned ones, or belong to another network.
    """
    entry = model(teacher.student if isinstance(teacher, Experiment) else teacher.model)
    file = None
    if stands_in != "always":
        try:
            file = _weights_of(teacher, store)
        except MissingInput:
            if stands_in == "never":
                raise
    with initialising("teacher", 0):  # weights overwrite all of it, but the draws must not be the global generator's
        network = entry.build(classes, image_size=image_size)
    if file is not None:
        network.load_state_dict(load_weights(file, entry, network))
    sha = tensors_sha256(network.state_dict())
    if isinstance(teacher, Experiment) and file is not None:
        record = store.read(Run(teacher, 0))
        if record is not None and record.weights_sha256 not in (None, sha):
            raise MissingInput(
                f"{file.path} does not hold the weights of its record "
                f"({sha[:12]}, not {str(record.weights_sha256)[:12]})",
                f"restore the file, or delete {store.paths(Run(teacher, 0)).record} to train the teacher again",
            )
    return Teacher(Network(network.eval(), entry.adapter(network)), sha, file.facts if file is not None else None)


def _weights_of(teacher: Experiment | TeacherSpec, store: Store) -> WeightFile:
    if isinstance(teacher, TeacherSpec):
        return weights_file(teacher.weights, store, teacher.sha256, teacher.mirror)
    found = store.weights(Run(teacher, 0))
    if found is None:
        raise MissingInput(
            f"the teacher {teacher.label} has no weights in {store.paths(Run(teacher, 0)).work}",
            "run the suite that trains it: the plan does so by itself",
        )
    return WeightFile.read(found)


def load_weights(file: WeightFile, entry: ModelEntry, network: nn.Module) -> dict[str, Tensor]:
    """Return a state dict that fits a network. Its family converts files of another layout.

    Raises:
        MissingInput: the file is no checkpoint, or its tensors are not this network's; says which differ.
    """
    state = entry.convert(file.tensors())
    wanted = network.state_dict()
    problems = [f"{name} is missing" for name in wanted if name not in state]
    problems += [f"{name} is not part of {entry.name}" for name in state if name not in wanted]
    problems += [
        f"{name} is {tuple(state[name].shape)}, {entry.name} has {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if problems:
        more = f", and {len(problems) - 6} more" if len(problems) > 6 else ""
        raise MissingInput(
            f"{file.path} is no checkpoint of {entry.name}: {'; '.join(problems[:6])}{more}",
            "name the model that the file was saved from, with its number of classes",
        )
    return state


def measured(
    teacher: Teacher,
    frozen: Network,
    data: ClassificationData,
    store: Store,
    precision_name: str,
    ranks: Ranks = ALONE,
    prepared: Preparation | None = None,
) -> dict[str, float]:
    """Return the frozen teacher's accuracy on the run's own test images, prepared by the recipe or as asked.

    It is measured once for each weights, data, preparation, kind of device and precision.
    """
    if prepared is not None:
        if not isinstance(data, ImageFolderData):
            raise UsageError(f"images of {data.identity.get('name')} are not resized", "take `preparation` out")
        data = data.prepared(prepared.interpolation, prepared.crop)
    size = data.example().shape[-1]
    computed = circumstances(precision_name, next(frozen.parameters()).device)
    key_of = [teacher.weights_sha256, dict(data.identity), *([] if size in (32, 224) else [size]), *computed]
    key_of += [prepared.model_dump()] if prepared is not None else []
    key_of += ["bicubic"] if isinstance(data, ImageFolderData) and data.interpolation == "bicubic" else []
    key = hashlib.sha256(json.dumps(key_of).encode()).hexdigest()[:16]
    path = store.runs / "teachers" / f"{key}.json"
    cached: dict[str, float] | None = ranks.told(_remembered(path))
    if cached is not None:
        return cached
    roles = frozen.roles
    frozen.bind((LOGITS,))
    found = evaluate(frozen, data, precision_name, ranks)
    frozen.bind(roles)
    if prepared is not None:
        data.close()
    if ranks.leads:
        write_text(path, json.dumps(found))
    return found


def _remembered(path: Path) -> dict[str, float] | None:
    try:
        found: dict[str, float] = json.loads(path.read_text())
        return found
    except (OSError, ValueError):
        return None
