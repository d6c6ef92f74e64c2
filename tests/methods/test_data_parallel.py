"""Every method trains inside DistributedDataParallel: no parameter is left without a gradient."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pairs import setup
from torch import distributed
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from benchmark.engine.distiller import Distiller
from methods.base import LOGITS, Moment
from methods.registry import methods


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store = distributed.FileStore(str(tmp_path_factory.mktemp("group") / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize("name", methods())
def test_two_steps_reach_every_parameter(name: str, group: None, tmp_path: Path) -> None:
    found = setup("equal")
    method = found.build(methods()[name].load()())
    found.wrap(method)
    task = lambda outputs, batch: F.cross_entropy(outputs[LOGITS], batch.targets)  # noqa: E731
    distiller = Distiller(found.student, method, task)
    wrapped = DistributedDataParallel(distiller)
    moment = Moment(torch.tensor(100.0), torch.tensor(0.5), torch.Generator().manual_seed(0))
    with torch.no_grad():
        teacher = found.pair.teacher(found.batch.inputs)
    for _ in range(2):  # what lacks a gradient in the first is told at the second
        wrapped.zero_grad()
        wrapped(found.batch, teacher, moment).total.backward()
    without = [key for key, value in distiller.named_parameters() if value.requires_grad and value.grad is None]
    assert without == []
