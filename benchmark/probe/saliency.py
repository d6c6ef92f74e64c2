"""Saliency of a finished detection run's networks: equation (10) of the paper on one level of their pyramids."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.errors import BenchmarkError
from benchmark.machine.streams import generator
from benchmark.models import openmmlab
from benchmark.models.taps import Network
from benchmark.paper.tasks import TASKS
from benchmark.plan.experiment import Run
from benchmark.probe.finished import restore
from benchmark.records.looked import DENOISED, STUDENT, TEACHER, Looked
from benchmark.train.dense.dense_task import DenseData, task
from benchmark.train.dense.parts import Parts, assembled
from benchmark.train.precision import arithmetic
from benchmark.train.settings import Settings
from methods.base import Method, Moment
from methods.diffkd.diffkd import Branch, DiffKD

TEMPERATURE = 0.5  # appendix F.1
LEVEL = "fpn.0"  # appendix F.1: the first output of the pyramid


def saliency(features: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Return `H W softmax(mean_c f / T)` over positions: B,C,H,W -> B,H,W, 1 on average. The mean keeps its sign."""
    strength = features.float().mean(dim=1)
    return strength[0].numel() * (strength.flatten(1) / temperature).softmax(dim=1).view_as(strength)


def looked(run: Run, settings: Settings, images: int) -> tuple[list[Looked], list[str]]:
    """Return a finished run's first test images with their maps, and the notes on its data and weights.

    Raises:
        MissingInput: the run's weights, its side networks, packages or data are not there.
    """
    found = task(run.experiment.task)
    with openmmlab.scope(TASKS[run.experiment.task].openmmlab), arithmetic(run.experiment.precision):
        data = found.data(run.experiment, settings.data_dir, settings.store.runs)
        parts = assembled(run, found, data, settings)
        restore(run, settings.store, parts.student.network, parts.method)
        networks = [network for network in (parts.student, parts.teacher) if network is not None]
        for network in networks:
            network.bind((LEVEL,))
            plain: Any = network.network
            plain.to(settings.device).eval()  # MMEngine's own `to`, which also tells where images have to go
        parts.method.to(settings.device).eval()
        noise = generator("method-noise", run.repetition, run.experiment.identity, device=torch.device(settings.device))
        with torch.no_grad():
            rows = [_looked(networks, parts.method, sample, noise) for sample in _samples(data, parts, images)]
    if broken := {head for row in rows for head, values in row.maps.items() if not np.isfinite(values).all()}:
        raise BenchmarkError(
            f"{run.label}: the features of the {', the '.join(sorted(broken))} are not finite numbers",
            "its training left weights that overflow: nothing can be drawn of it",
        )
    return rows, [note for note in (data.note, *parts.notes) if note]


def _samples(data: DenseData, parts: Parts, images: int) -> Iterator[tuple[Tensor, Any]]:
    for position in range(min(images, len(data.test))):
        item = data.test[position]
        batch = {"inputs": [item["inputs"]], "data_samples": [item["data_samples"]]}
        student: Any = parts.student.network  # a detector of mmdet
        prepared = student.data_preprocessor(batch, False)
        yield prepared["inputs"], prepared["data_samples"][0]


def _looked(networks: list[Network], method: Method, prepared: tuple[Tensor, Any], noise: torch.Generator) -> Looked:
    inputs, sample = prepared
    features = []
    for network in networks:
        detector: Any = network.network
        _, seen = network.observed(partial(detector.extract_feat, inputs))
        features.append(seen[LEVEL])
    shown = {STUDENT: features[0]}
    branch = branch_of(method)
    if branch is not None and len(features) == 2:
        zero = torch.zeros((), device=inputs.device)
        shown[DENOISED] = branch(*features, Moment(zero, zero, noise, step=zero)).student
    if len(features) == 2:
        shown[TEACHER] = features[1]
    real = sample.img_shape[0] / inputs.shape[2], sample.img_shape[1] / inputs.shape[3]
    return Looked(Path(sample.img_path), {head: _without_padding(saliency(f)[0], real) for head, f in shown.items()})


def branch_of(method: Method) -> Branch | None:
    """Return the branch of DiffKD that denoises this level, also inside a sum of methods; None if there is none."""
    found = [module for module in method.modules() if isinstance(module, DiffKD)]
    branches = [branch for diffkd in found for _, branch in diffkd.each_branch() if branch.role == LEVEL]
    return branches[0] if branches else None


def _without_padding(values: Tensor, real: tuple[float, float]) -> NDArray[np.float64]:
    height, width = (max(1, round(share * side)) for share, side in zip(real, values.shape, strict=True))
    kept: NDArray[np.float64] = values[:height, :width].double().cpu().numpy()
    return kept
