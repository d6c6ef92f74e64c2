"""Assembly of a run on the device: the networks that train, the teacher, the method and the optimiser."""

from __future__ import annotations

import inspect
import warnings

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmark.data.batches import ClassificationData
from benchmark.machine.ranks import ALONE, Ranks
from benchmark.machine.streams import generator, initialising
from benchmark.models.checkpoints import WeightFile
from benchmark.models.registry import ModelEntry, model
from benchmark.models.taps import Network, resolve_roles
from benchmark.paper.suite import TeacherSpec
from benchmark.plan.experiment import Experiment, Run
from benchmark.records.store import Store
from benchmark.train.classification import classification_task
from benchmark.train.engine.assembly import Assembly
from benchmark.train.engine.average import MovingAverage
from benchmark.train.engine.distiller import Distiller, student_roles, trained_student
from benchmark.train.engine.optimizer import make_optimizer
from benchmark.train.engine.shards import Shards, shards_of, with_norms_for
from benchmark.train.engine.teacher import Teacher, load_weights, measured, teacher_of
from benchmark.train.first_use import given_files, held
from benchmark.train.weights import weights_file
from methods.base import Moment, Pair


def assembled(run: Run, data: ClassificationData, store: Store, device: torch.device, ranks: Ranks = ALONE) -> Assembly:
    """Build the networks, method and optimiser of a run. Random initialisation uses the run's own streams.

    Raises:
        CannotServe: the method cannot serve this pair.
        MissingInput: weights are not there.
    """
    experiment = run.experiment
    recipe = experiment.recipe
    assert recipe is not None
    entry = model(experiment.student)
    wishes = {"image_size": data.example().shape[-1], "dropout": recipe.dropout, "drop_path": recipe.drop_path}
    with initialising("init", run.repetition, experiment.student):
        plain = entry.build(data.classes, **wishes)
    start: WeightFile | None = None
    if experiment.student_weights:
        start, state = ranks.leader_first(lambda: _start(experiment, entry, plain, store))
        plain.load_state_dict(state)
    method = experiment.method.make()
    teacher: Teacher | None = None
    frozen: Network | None = None
    teacher_metrics: dict[str, float] = {}
    if experiment.teacher is not None:
        teacher = ranks.leader_first(lambda: teacher_of(experiment, data, store))
        taps = teacher.network.adapter.taps
        teacher.network.bind(resolve_roles(method.taps, taps))
        seen = Network(plain, entry.adapter(plain), student_roles(method))
        with initialising("method", run.repetition, experiment.identity):
            method.build(_pair(seen, teacher.network, data, experiment.task))
        seen.bind(())  # its hooks would continue to record
        teacher.network.bind(resolve_roles(method.taps, taps))  # `build` may have narrowed them
    files = given_files(method)
    if start is not None:
        files["student"] = start.facts
    if teacher is not None and teacher.origin is not None and isinstance(experiment.teacher, TeacherSpec):
        files["teacher"] = teacher.origin
    held(run, files, store, ranks, teacher.weights_sha256 if teacher is not None else None)
    if teacher is not None:
        frozen = teacher.frozen().to(device)
        teacher_metrics = measured(teacher, frozen, data, store, experiment.precision, ranks)
        if isinstance(given := experiment.teacher, TeacherSpec) and given.preparation and experiment.profile == "paper":
            own = measured(teacher, frozen, data, store, experiment.precision, ranks, given.preparation)
            teacher_metrics = teacher_metrics | {f"as_published_{name}": value for name, value in own.items()}
        if method.teacher_in_train_mode:
            frozen = teacher.in_train_mode().to(device)
    wrapped = method.wrap_student(plain)
    student = trained_student(wrapped, entry.adapter(wrapped), method)
    distiller = Distiller(student, method, classification_task.task_loss(experiment)).to(device)
    distiller = distiller.to(memory_format=torch.channels_last)
    distiller.train()
    with_norms_for(distiller, recipe, ranks, experiment.profile)
    student.bind(student.roles)  # taps on the norms that were replaced
    modules = [student, *(method.trainable_modules() if teacher else ())]
    noise = generator("method-noise", run.repetition, experiment.identity, device=device)
    total = shards_of(recipe, ranks)
    shards = Shards(run, ranks, total, distiller, noise)
    # With shards each has noise of its own; else noise is drawn for the batch, and this rank keeps its part.
    part = (0, 1) if recipe.per_device_batch else (ranks.rank, ranks.world)
    return Assembly(
        distiller=distiller,
        frozen=frozen,
        teacher=teacher,
        teacher_metrics=teacher_metrics,
        optimizer=make_optimizer(recipe, modules),
        scaler=torch.amp.GradScaler(device.type, enabled=experiment.precision == "fp16"),
        moment=_moment(noise, ranks, part, device),
        trained=_exchanging(distiller, ranks),
        shards=shards,
        average=MovingAverage(student, recipe.ema) if recipe.ema else None,
        not_in_student=tuple(wish for wish in ("dropout", "drop_path") if wishes[wish] and not entry.takes(wish)),
        files=files,
    )


def _start(
    experiment: Experiment, entry: ModelEntry, plain: nn.Module, store: Store
) -> tuple[WeightFile, dict[str, Tensor]]:
    file = weights_file(str(experiment.student_weights), store, experiment.student_weights_sha256)
    return file, load_weights(file, entry, plain)


def _moment(noise: torch.Generator, ranks: Ranks, part: tuple[int, int], device: torch.device) -> Moment:
    epoch, progress, step = (torch.zeros((), device=device) for _ in range(3))
    return Moment(epoch, progress, noise, ranks.gather, part, step)


def _exchanging(distiller: Distiller, ranks: Ranks) -> nn.Module:
    """Return the distiller such that its gradients are averaged over all ranks. Its buffers are not synchronised."""
    if ranks.world == 1:
        return distiller
    # Gradients of 1x1 convolutions made as matrix products differ from their weights in strides of size-one dimensions.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    known = inspect.signature(DistributedDataParallel).parameters
    quiet = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # its name before 2.14
    return DistributedDataParallel(distiller, **{quiet: False})  # type: ignore[arg-type]


def _pair(student: Network, teacher: Network, data: ClassificationData, task: str) -> Pair:
    example = data.example().cpu()
    return Pair(
        student=student,
        teacher=teacher,
        student_shapes=student.shapes(example),
        teacher_shapes=teacher.shapes(example),
        classes=data.classes,
        dataset_size=len(data),
        task=task,
        labels=data.labels,
    )
