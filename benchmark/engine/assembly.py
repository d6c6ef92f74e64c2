"""What a run trains and what it learns from, put together on the device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from benchmark.engine.distiller import Distiller, student_roles, trained_student
from benchmark.engine.optimizer import make_optimizer
from benchmark.engine.streams import generator, initialising
from benchmark.engine.teacher import Teacher, load_teacher, load_weights, measured
from benchmark.experiment import Run
from benchmark.models.registry import model
from benchmark.models.taps import Network, resolve_roles
from benchmark.records import Store
from benchmark.tasks import classification
from benchmark.tasks.classification import DeviceData
from methods.base import Moment, Pair


@dataclass
class Assembly:
    """One run's networks, method and optimiser."""

    distiller: Distiller  # the student and the method's side networks
    frozen: Network | None  # the teacher as it runs beside the student
    teacher: Teacher | None
    teacher_metrics: dict[str, float]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    moment: Moment


def assembled(run: Run, data: DeviceData, store: Store, device: torch.device) -> Assembly:
    """Build everything from the run's own streams.

    Raises:
        CannotServe: the method cannot serve this pair.
        MissingInput: weights are not there.
    """
    experiment = run.experiment
    assert experiment.recipe is not None
    entry = model(experiment.student)
    with initialising("init", run.repetition, experiment.student):
        plain = entry.build(data.classes)
    if experiment.student_weights:
        plain.load_state_dict(load_weights(Path(experiment.student_weights), entry, plain))
    method = experiment.method.make()
    teacher: Teacher | None = None
    frozen: Network | None = None
    teacher_metrics: dict[str, float] = {}
    if experiment.teacher is not None:
        teacher = load_teacher(experiment.teacher, data.classes, store)
        taps = teacher.network.adapter.taps
        teacher.network.bind(resolve_roles(method.taps, taps))
        seen = Network(plain, entry.adapter(plain), student_roles(method))
        with initialising("method", run.repetition, experiment.identity):
            method.build(_pair(seen, teacher.network, data, experiment.task))
        seen.bind(())  # its hooks would go on recording
        teacher.network.bind(resolve_roles(method.taps, taps))  # `build` may have narrowed them
        frozen = teacher.frozen().to(device)
        teacher_metrics = measured(teacher, frozen, data, store)
    wrapped = method.wrap_student(plain)
    student = trained_student(wrapped, entry.adapter(wrapped), method)
    distiller = Distiller(student, method, classification.task_loss(experiment)).to(device)
    distiller = distiller.to(memory_format=torch.channels_last)
    distiller.train()
    modules = [student, *(method.trainable_modules() if teacher else ())]
    noise = generator("method-noise", run.repetition, experiment.identity, device=device)
    return Assembly(
        distiller=distiller,
        frozen=frozen,
        teacher=teacher,
        teacher_metrics=teacher_metrics,
        optimizer=make_optimizer(experiment.recipe, modules),
        scaler=torch.amp.GradScaler(device.type, enabled=experiment.precision == "fp16"),
        moment=Moment(torch.zeros((), device=device), torch.zeros((), device=device), noise),
    )


def _pair(student: Network, teacher: Network, data: DeviceData, task: str) -> Pair:
    example = data.example().cpu()
    return Pair(
        student=student,
        teacher=teacher,
        student_shapes=student.shapes(example),
        teacher_shapes=teacher.shapes(example),
        classes=data.classes,
        dataset_size=len(data),
        task=task,
        labels=data.train.labels.cpu(),
    )
