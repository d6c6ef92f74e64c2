"""The results of a dense run that ended: the student's weights, the side networks and the record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from benchmark.machine.files import write_atomically
from benchmark.records.store import Record, Status, curves_csv
from benchmark.train import checkpoint, honouring
from benchmark.train.outcome import record_of, rounded

if TYPE_CHECKING:
    from benchmark.train.dense.training import DenseTraining


def write_record(training: DenseTraining, status: Status, reason: str = "") -> Record:
    """Write the student's weights, the side networks and the record of a run that ended. Return the record."""
    student = training.parts.method.merge(training.parts.student.network)
    weights = {name: tensor.detach().cpu() for name, tensor in student.state_dict().items()}
    if status == "done":
        write_atomically(training.paths.student, lambda file: torch.save(weights, file))
        if side := {name: tensor.detach().cpu() for name, tensor in training.parts.method.state_dict().items()}:
            write_atomically(training.paths.side_networks, lambda file: torch.save(side, file))
    training.tick()
    images = training.images(training.model.step)
    record = record_of(
        training.run_id,
        training.settings,
        training.curves,
        status=status,
        reason=reason,
        weights=weights,
        attempts=training.paths.attempts,
        data=training.data.identity,
        teacher=_teacher_facts(training),
        weight_files=training.parts.files,
        effective=_effective(training),
        seconds=round(training.seconds, 2),
        images_per_second=round(images / training.training_seconds, 2) if training.training_seconds else None,
    )
    training.settings.store.write(
        training.run_id, record, curves_csv(training.curves.rows) if training.curves.rows else ""
    )
    checkpoint.remove(training.paths.checkpoint)
    return record


def _teacher_facts(training: DenseTraining) -> dict[str, object] | None:
    if training.parts.teacher is None:
        return None
    return {**training.parts.teacher_facts, **rounded(training.teacher_metrics)}


def _effective(training: DenseTraining) -> dict[str, object]:
    from benchmark.models import mmcv_ops

    found: dict[str, object] = {
        "device": str(training.device),
        "threads": torch.get_num_threads(),
        "precision": training.run_id.experiment.precision,
        "deterministic": training.device.type == "cpu",
        "batch": training.recipe.batch,
        "per_device_batch": training.model.per_device,
        "mmcv_ops": mmcv_ops.in_use(),
    }
    ignored = honouring.require(training.run_id.experiment)
    found |= {"ignored": ignored} if ignored else {}
    return found | ({"stand_ins": training.parts.notes} if training.parts.notes else {})
