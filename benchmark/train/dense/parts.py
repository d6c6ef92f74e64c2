"""The networks, weights and method of one dense run, built from the run's own streams."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from benchmark.errors import MissingInput
from benchmark.machine.files import write_text
from benchmark.machine.streams import initialising, seed_of
from benchmark.models.checkpoints import WeightFile
from benchmark.models.registry import model
from benchmark.models.taps import Network, resolve_roles
from benchmark.plan.experiment import Experiment, Run
from benchmark.train.checkpoint import tensors_sha256
from benchmark.train.dense import dense_task, loading
from benchmark.train.dense.dense_task import DenseData, DenseTask
from benchmark.train.dense.generators import seeded_globals
from benchmark.train.first_use import given_files, held
from benchmark.train.precision import circumstances
from benchmark.train.weights import weights_file
from methods.base import Method, Pair

if TYPE_CHECKING:
    from benchmark.train.settings import Settings

RANDOM = "RANDOM WEIGHTS stand in"


@dataclass
class Parts:
    """The networks and the method of a run, and the record's facts about the weights."""

    student: Network
    method: Method
    teacher: Network | None
    teacher_facts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # of given weights


def assembled(run: Run, task: DenseTask, data: DenseData, settings: Settings) -> Parts:
    """Build the networks and the method of a run, and load the weights.

    Raises:
        CannotServe: the method cannot serve this pair.
        MissingInput: weights are not there, and the profile is one that is compared with something.
    """
    experiment = run.experiment
    notes: list[str] = []
    entry = model(experiment.student)
    with initialising("init", run.repetition, experiment.student):
        plain = task.trainable(entry.build(data.classes), data.classes)
    files: dict[str, Mapping[str, str]] = {}

    def start() -> None:
        file = weights_file(str(experiment.student_weights), settings.store, experiment.student_weights_sha256)
        loading.load_backbone(plain, file)
        files["student"] = file.facts

    if experiment.student_weights:
        _or_random(experiment, "the student's backbone", notes, start)
    method = experiment.method.make()
    if method.teacher_in_train_mode:
        method.skip("a detector's or segmentor's teacher is in eval mode; `teacher: eval` says so")
    if experiment.teacher is None:
        held(run, files, settings.store)
        return Parts(Network(plain, entry.adapter(plain), ()), method, None, notes=notes, files=files)
    taught, facts = loaded_teacher(experiment, data.classes, settings, notes, files)
    if experiment.inherit:
        loading.inherit(plain, taught)
    teacher = Network(taught, model(experiment.teacher_name).adapter(taught), ())
    student_taps = entry.adapter(plain).taps
    teacher.bind(resolve_roles(method.taps, teacher.adapter.taps))
    with initialising("method", run.repetition, experiment.identity):
        method.build(_pair(Network(plain, entry.adapter(plain), ()), teacher, task, data, method, run))
    teacher.bind(resolve_roles(method.taps, teacher.adapter.taps))  # `build` may have narrowed them
    student = Network(plain, entry.adapter(plain), task.needed(resolve_roles(method.taps, student_taps)))
    taught.eval().requires_grad_(False)
    files |= given_files(method)
    held(run, files, settings.store, teacher_sha256=facts["weights_sha256"])
    return Parts(student, method, teacher, facts, notes, files)


def loaded_teacher(
    experiment: Experiment,
    classes: int,
    settings: Settings,
    notes: list[str],
    files: dict[str, Mapping[str, str]],
) -> tuple[nn.Module, dict[str, str]]:
    """Return the teacher's plain network and the record's facts about its weights. Extend `notes` and `files`."""
    given = experiment.teacher
    assert given is not None
    with initialising("teacher", 0):
        network = dense_task.task(experiment.task).trainable(model(experiment.teacher_name).build(classes), classes)

    def load() -> None:
        if isinstance(given, Experiment):
            path = settings.store.weights(Run(given, 0))
            if path is None:
                raise MissingInput(f"the teacher {given.label} has no weights", "run the suite that trains it")
            loading.load_whole(network, WeightFile.read(path))
        else:
            file = weights_file(given.weights, settings.store, given.sha256, given.mirror)
            loading.load_whole(network, file)
            files["teacher"] = file.facts

    random = _or_random(experiment, f"the teacher {experiment.teacher_name}", notes, load)
    facts = {"weights_sha256": tensors_sha256(network.state_dict())}
    return network.eval(), facts | ({"stand_in": RANDOM} if random else {})


def _or_random(experiment: Experiment, whose: str, notes: list[str], load: Callable[[], None]) -> bool:
    """Load weights.

    In smoke runs only, leave missing ones random, add a note and return True; otherwise return False.
    """
    try:
        load()
    except MissingInput as error:
        if experiment.profile != "smoke":
            raise MissingInput(
                error.message, f"{error.fix}\n  or prove the path alone, with random weights: --profile smoke"
            ) from error
        notes.append(f"{RANDOM} for {whose} ({error.message}): figures say nothing")
        return True
    return False


def _pair(student: Network, teacher: Network, task: DenseTask, data: DenseData, method: Method, run: Run) -> Pair:
    """Build the pair with shapes from the first training image. Copies are used, so the networks do not change."""
    inputs, samples = _example(student.network, data)
    with torch.no_grad(), seeded_globals(seed_of("shapes", run.repetition)):
        copied = Network(copy.deepcopy(student.network), student.adapter, ())
        copied.bind(task.needed(resolve_roles(method.taps, student.adapter.taps)))
        network: Any = copied.network
        _, seen = copied.observed(lambda: network.loss(inputs, samples))
        taught = task.teach(teacher, inputs, seen)
    return Pair(
        student=student,
        teacher=teacher,
        student_shapes={role: tuple(seen[role].shape[1:]) for role in teacher.roles if role in seen},
        teacher_shapes={role: tuple(tensor.shape[1:]) for role, tensor in taught.items()},
        classes=data.classes,
        dataset_size=len(data.positions),
        task=run.experiment.task,
    )


def _example(network: nn.Module, data: DenseData) -> tuple[torch.Tensor, Any]:
    with seeded_globals(0):
        item = data.train[data.positions[0]]
    plain: Any = network
    twice = {key: [item[key], copy.deepcopy(item[key])] for key in ("inputs", "data_samples")}  # one is no batch
    found = plain.data_preprocessor(twice, True)
    return found["inputs"], found["data_samples"]


def cached_metrics(
    settings: Settings,
    weights_sha256: str,
    data: DenseData,
    precision_name: str,
    measure: Callable[[], dict[str, float]],
) -> dict[str, float]:
    """Return a frozen network's metrics on the run's own test images.

    They are measured once for each weights, data, kind of device and precision.
    """
    computed = circumstances(precision_name, torch.device(settings.device))
    key_of = [weights_sha256, dict(data.identity), *computed]
    key = hashlib.sha256(json.dumps(key_of).encode()).hexdigest()[:16]
    path = settings.store.runs / "teachers" / f"{key}.json"
    try:
        cached: dict[str, float] = json.loads(path.read_text())
        return cached
    except (OSError, ValueError):
        found = measure()
        write_text(path, json.dumps(found))
        return found
