"""Every method trains inside DistributedDataParallel: no parameter is left without a gradient."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from detection_pair import detection_setup
from pairs import Setup, setup
from segmentation_pair import segmentation_setup
from torch import Tensor, distributed
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from benchmark.errors import CannotServe
from benchmark.models.taps import resolve_roles
from benchmark.train.engine.distiller import Distiller
from methods.base import LOGITS, Batch, Method, Moment, Outputs
from methods.registry import methods


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store = distributed.FileStore(str(tmp_path_factory.mktemp("group") / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def served(name: str) -> tuple[Setup, Method]:
    """The first small pair that a method serves."""
    for pair in (lambda: setup("equal"), detection_setup, segmentation_setup):
        found, method = pair(), methods()[name].load()()
        try:
            for shapes in (found.pair.student_shapes, found.pair.teacher_shapes):
                resolve_roles(method.taps, shapes)
            return found, found.build(method)
        except CannotServe:
            continue
    raise AssertionError(f"{name} serves no pair")


def task(outputs: Outputs, batch: Batch) -> Tensor:
    """Something that reaches the student's parameters, whatever its task."""
    if LOGITS in outputs:
        return F.cross_entropy(outputs[LOGITS], batch.targets)
    return torch.stack([value.float().square().mean() for value in outputs.values()]).sum()


@pytest.mark.parametrize("name", methods())
def test_two_steps_reach_every_parameter(name: str, group: None, tmp_path: Path) -> None:
    found, method = served(name)
    found.wrap(method)
    distiller = Distiller(found.student, method, task)
    wrapped = DistributedDataParallel(distiller)
    noise = torch.Generator().manual_seed(0)
    moment = Moment(torch.tensor(100.0), torch.tensor(0.5), noise, step=torch.tensor(1e5))
    with torch.no_grad():
        teacher = found.pair.teacher(found.batch.inputs)
    for _ in range(2):  # what lacks a gradient in the first is told at the second
        wrapped.zero_grad()
        wrapped(found.batch, teacher, moment).total.backward()
    without = [key for key, value in distiller.named_parameters() if value.requires_grad and value.grad is None]
    assert without == []
