"""A teacher whose norms take each batch's statistics, where a method's source has it so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from small import settings_in
from torch import nn

from benchmark.data.random_images import noise
from benchmark.models.registry import model
from benchmark.plan.experiment import Run
from benchmark.records.store import Record
from benchmark.train.classification.training import Training
from benchmark.train.settings import Stopped
from benchmark.train.trainer import record_from
from benchmark.verify.exported_students import experiment
from methods.spec import MethodSpec


def run_with(folder: Path, method: object) -> Run:
    path = folder / "teacher.pt"
    if not path.exists():
        torch.manual_seed(0)
        torch.save(model("resnet14").build(100).state_dict(), path)
    asked = experiment("ofd", "resnet8", "resnet14", path, 8)
    assert asked.recipe is not None
    recipe = asked.recipe.model_copy(update={"epochs": 2})
    return Run(replace(asked, method=MethodSpec.parse(method), recipe=recipe), 0)


def trained(run: Run, folder: Path, stops: int = 0) -> Record:
    """Train to the end; the first `stops` attempts stop after a step each."""
    folder.mkdir(exist_ok=True)
    while True:
        settings = settings_in(folder)
        if stops > 0:
            settings.stop.set()
            stops -= 1
        try:
            return record_from(Training(run, noise(20), settings).advancing())
        except Stopped:
            continue


def test_ofd_sees_its_teacher_in_train_mode_if_the_source_does(tmp_path: Path) -> None:
    usual = trained(run_with(tmp_path, "ofd"), tmp_path / "eval")
    run = run_with(tmp_path, {"ofd": {"teacher": "train"}})
    of_batches = trained(run, tmp_path / "train")
    assert of_batches.weights_sha256 != usual.weights_sha256
    assert of_batches.teacher is not None and usual.teacher is not None
    assert of_batches.teacher.metrics == usual.teacher.metrics  # it is measured as it is: in eval mode
    assert of_batches.teacher.weights_sha256 == usual.teacher.weights_sha256
    interrupted = trained(run, tmp_path / "again", stops=3)
    assert interrupted.outcome() == of_batches.outcome()


def test_norms_of_the_teacher_use_the_batch(tmp_path: Path) -> None:
    training = Training(run_with(tmp_path, {"ofd": {"teacher": "train"}}), noise(20), settings_in(tmp_path))
    frozen = training.parts.frozen
    assert frozen is not None
    norms = [module for module in frozen.network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 15 and all(norm.training for norm in norms)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    images = torch.randn(8, 3, 32, 32)
    outputs = [frozen(batch)["stage3.preact"] for batch in (images, images[:4])]
    assert not torch.allclose(outputs[0][:4], outputs[1])
