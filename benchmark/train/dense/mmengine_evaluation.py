"""Evaluation of detectors and segmentation networks: of any network, and of a run that only evaluates."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from benchmark.models import openmmlab
from benchmark.plan.experiment import Run
from benchmark.records.store import Record
from benchmark.train import precision
from benchmark.train.dense.dense_task import task
from benchmark.train.first_use import held
from benchmark.train.outcome import asked_and_found, rounded
from benchmark.train.settings import Settings


def evaluate(
    network: Any, data: Any, device: torch.device, precision_name: str, workers: int | None = None
) -> dict[str, float]:
    """Return the evaluator's metrics of a plain network on the test images.

    `precision_name` is the one that the caller records. No half precision is used: bf16 and fp16 evaluate as fp32.
    `workers` processes decode the images, none by default.
    """
    from benchmark.train.dense.feeding import test_loader

    network.to(device).eval()
    with torch.no_grad(), precision.arithmetic(precision_name):
        for batch in test_loader(data, workers):
            data.evaluator.process(data_samples=network.test_step(batch), data_batch=batch)
    with openmmlab.quiet():
        found: dict[str, float] = data.evaluator.evaluate(len(data.test))
    return found


def evaluated(run: Run, settings: Settings) -> Record:
    """Evaluate given weights on the test images, without training, and return the record."""
    from benchmark.train.dense.parts import cached_metrics, loaded_teacher

    began = time.monotonic()
    found = task(run.experiment.task)
    data = found.data(run.experiment, settings.data_dir, settings.store.runs)
    notes: list[str] = []
    files: dict[str, Mapping[str, str]] = {}
    network, facts = loaded_teacher(run.experiment, data.classes, settings, notes, files)
    held(run, files, settings.store, teacher_sha256=facts["weights_sha256"])
    device = torch.device(settings.device)
    asked = precision.EVALUATED
    metrics = cached_metrics(
        settings,
        facts["weights_sha256"],
        data,
        asked,
        lambda: found.metrics(evaluate(network, data, device, asked, settings.workers)),
    )
    for note in filter(None, (data.note, *notes)):
        settings.say(f"NOTE: {run.label}: {note}")
    effective = {"device": settings.device, "threads": torch.get_num_threads(), "precision": asked}
    record = Record(
        status="done",
        last=rounded(metrics),
        best=rounded(metrics),
        weights_sha256=facts["weights_sha256"],
        data=dict(data.identity),
        weight_files=files,
        effective=effective | ({"stand_ins": notes} if notes else {}),
        seconds=round(time.monotonic() - began, 2),
        **asked_and_found(run, settings),
    )
    settings.store.write(run, record)
    return record
