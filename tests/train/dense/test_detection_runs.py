"""Detection from manifest to record: what is trained and kept, and that an interruption changes nothing."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import pytest
import torch
from detection_runs import DIFFKD, carry_out, runs_by_row, suite
from small import After, settings_in

from benchmark.models import openmmlab
from benchmark.plan.experiment import Run
from benchmark.records.store import Store
from benchmark.train.dense.feeding import training_loader
from benchmark.train.dense.generators import own_generators, seeded_globals
from benchmark.train.dense.mmengine_loop import DenseTraining
from benchmark.train.dense.model import Distilling
from benchmark.train.settings import Stopped

AP = {"ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"}


def built(row: str, folder: Path, rows: dict[str, Any] | None = None) -> DenseTraining:
    """A run that is put together and not begun."""
    with openmmlab.scope("mmdet"), own_generators("fp32", torch.device("cpu")):
        return DenseTraining(runs_by_row(suite(folder, rows))[row], settings_in(folder))


def one_step(training: DenseTraining) -> None:
    """The first step, without MMEngine's Runner, so that its gradients can be looked at."""
    from mmengine.optim import OptimWrapper

    class KeepsGradients(OptimWrapper):  # type: ignore[misc]
        def step(self, **kwargs: Any) -> None:
            pass

        def zero_grad(self, **kwargs: Any) -> None:
            pass

    model = training.model
    model.train()
    with openmmlab.scope("mmdet"), own_generators("fp32", torch.device("cpu")):
        batch = next(iter(training_loader(training.data, training.order)))
        model.train_step(batch, KeepsGradients(torch.optim.SGD(model.parameters(), 0.01)))


def test_gradients_reach_student_and_side_networks_and_never_the_teacher(workplace: Path) -> None:
    training = built("DiffKD", workplace)
    teacher = training.parts.teacher
    assert teacher is not None
    passes: list[int] = []
    teacher.network.backbone.register_forward_hook(lambda *call: passes.append(1))  # type: ignore[union-attr, operator]
    before = {name: tensor.clone() for name, tensor in teacher.network.state_dict().items()}
    one_step(training)
    assert len(passes) == 1, "the teacher sees a batch once"
    student = dict(training.parts.student.network.named_parameters())
    reached = {name for name, p in student.items() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {
        "backbone.layer4.0.downsample.0.weight",
        "neck.fpn_convs.0.conv.weight",
        "bbox_head.retina_reg.weight",
    } <= reached
    assert not [name for name, p in student.items() if p.requires_grad and p.grad is None]
    side = dict(training.parts.method.named_parameters())
    assert side and not [name for name, p in side.items() if p.grad is None]
    assert all(p.grad.isfinite().all() for p in training.model.parameters() if p.grad is not None)
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.network.state_dict().items())
    trained = {id(p) for p in training.model.parameters()}
    assert not trained & {id(p) for p in teacher.parameters()}
    means = training.meter.means()
    assert all(value == value and abs(value) < 1e6 for value in means.values())
    assert {"task", "task.loss_cls", "diffkd.feature_0.distillation", "regressionkd.regression"} <= set(means)


def test_an_inheriting_student_starts_with_its_teachers_neck_and_heads(workplace: Path) -> None:
    rows = {"Inherits": {"method": DIFFKD, "inherit": True}}
    training = built("Inherits", workplace, rows)
    assert training.parts.teacher is not None
    taught = training.parts.teacher.network.state_dict()
    student = training.parts.student.network.state_dict()
    same = {name for name, tensor in student.items() if torch.equal(tensor, taught[name])}
    assert {"neck.fpn_convs.0.conv.weight", "bbox_head.retina_cls.weight"} <= same
    assert "backbone.layer2.0.conv1.weight" not in same
    experiment = training.run_id.experiment
    assert experiment.canonical()["inherit"] and experiment.describe()["inherit"]


def test_a_batch_is_taken_in_parts_of_what_one_device_saw(workplace: Path) -> None:
    whole = {"DiffKD": {"method": DIFFKD}}
    path = suite(workplace, whole, profile={"batch": 4, "epochs": 1})
    with openmmlab.scope("mmdet"), own_generators("fp32", torch.device("cpu")):
        training = DenseTraining(runs_by_row(path)["DiffKD"], settings_in(workplace))
    seen: list[int] = []
    training.model.student.network.register_forward_pre_hook(lambda *call: None)
    original = training.model._losses

    def counted(inputs: torch.Tensor, samples: Any) -> Any:
        seen.append(len(inputs))
        return original(inputs, samples)

    training.model._losses = counted
    one_step(training)
    assert seen == [2, 2]
    assert len(training.order) == 1


def test_rows_of_one_repetition_start_alike_and_see_the_same_images(workplace: Path) -> None:
    plain, diffkd = built("Student", workplace), built("DiffKD", workplace)
    theirs = plain.parts.student.network.state_dict()
    ours = diffkd.parts.student.network.state_dict()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())
    with openmmlab.scope("mmdet"), own_generators("fp32", torch.device("cpu")), seeded_globals(0):
        batches = [list(training_loader(training.data, training.order)) for training in (plain, diffkd)]
    for one, other in zip(*batches, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one["inputs"], other["inputs"], strict=True))


def as_before_the_seal(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    del state["seal"], state["benchmark"]["teacher_sha256"]
    torch.save(state, path)


def with_a_flipped_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def intact(path: Path) -> None:
    pass


@pytest.mark.parametrize(
    "spoils",
    [
        pytest.param((intact,), id="once"),
        pytest.param((as_before_the_seal, intact, with_a_flipped_bit), id="at every step", marks=pytest.mark.slow),
    ],
)
def test_a_run_interrupted_at_any_step_ends_as_if_it_never_was(
    spoils: tuple[Callable[[Path], None], ...], workplace: Path
) -> None:
    run = runs_by_row(suite(workplace))["DiffKD"]
    whole = carry_out(run, workplace / "whole")
    assert whole.status == "done" and set(whole.last) <= AP and "ap" in whole.last
    assert whole.teacher is not None and "RANDOM" in whole.teacher.stand_in
    assert any("backbone" in note or "teacher" in note for note in whole.effective.stand_ins)
    lines: list[str] = []
    saved = Store(workplace / "parts" / "results", workplace / "parts" / "runs").paths(run).checkpoint
    for spoil in spoils:
        with pytest.raises(Stopped):  # after one step; one question whether to stop comes before the first
            carry_out(run, workplace / "parts", stop=After(1), lines=lines)
        spoil(saved)
    parts = carry_out(run, workplace / "parts", lines=lines)
    assert parts.outcome() == whole.outcome()
    said = [line.partition("resuming from ")[2] for line in lines if "resuming from" in line]
    assert said == ["epoch 1, step 1 of 2", "epoch 1, step 2 of 2", "epoch 1, step 2 of 2"][: len(spoils)]
    rewritten = [line for line in lines if "without a seal: rewritten" in line]
    kept = [line for line in lines if "kept as checkpoint.pt.damaged-1" in line]
    assert (len(rewritten), len(kept)) == (spoils.count(as_before_the_seal), spoils.count(with_a_flipped_bit))
    curves = [
        Store(workplace / place / "results", workplace / place / "runs").paths(run).curves
        for place in ("whole", "parts")
    ]
    assert curves[0].read_text() == curves[1].read_text()
    assert len(curves[0].read_text().splitlines()) == 3


@pytest.mark.slow
def test_telemetry_is_in_the_curves_and_changes_nothing_else(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs_by_row(suite(workplace))["DiffKD"]
    with_it = carry_out(run, workplace / "with")
    store = Store(workplace / "with" / "results", workplace / "with" / "runs")
    with store.paths(run).curves.open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    for row in rows:
        found = {name.removeprefix("telemetry."): row[name] for name in row if name.startswith("telemetry.")}
        assert found["norm.student"] > 0 and found["norm.side_networks"] > 0
        assert found["gradient.task"] > 0 and found["gradient.diffkd.feature_0.distillation"] > 0
        assert found["gradient.diffkd.feature_0.diffusion"] == 0, "it trains the side networks alone"
        assert all(found[f"spread.fpn.{level}"] > 0 for level in range(3))
    monkeypatch.setattr(Distilling, "_sampled", lambda *given: {})
    without = carry_out(run, workplace / "without")
    assert without.outcome() == with_it.outcome()
    assert not any(name.startswith("telemetry.") for name in with_it.tracked)


def test_clipped_steps_are_counted(workplace: Path) -> None:
    run = runs_by_row(suite(workplace, profile={"epochs": 1, "train": 2}))["Student"]
    assert run.experiment.recipe is not None
    recipe = run.experiment.recipe.model_copy(update={"clip_grad": 1e-3})
    clipped = Run(replace(run.experiment, recipe=recipe), 0)
    carry_out(clipped, workplace)
    store = Store(workplace / "results", workplace / "runs")
    names, values = (line.split(",") for line in store.paths(clipped).curves.read_text().splitlines())
    assert dict(zip(names, values, strict=True))["telemetry.clipped"] == "1"


def broken_loss(model: Distilling) -> None:
    network: Any = model.student.network
    original = network.loss
    network.loss = lambda *given: {name: [part * nan for part in losses] for name, losses in original(*given).items()}


def broken_weights(model: Distilling) -> None:
    """As a step leaves them whose loss is a number and whose gradients are none."""
    original = model.train_step

    def train_step(*given: Any, **named: Any) -> Any:
        found = original(*given, **named)
        with torch.no_grad():
            model.student.network.get_parameter("bbox_head.retina_cls.bias")[3] = nan
        return found

    model.train_step = train_step  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("breaks", "reason"),
    [
        (broken_loss, "task is not a finite number at step 0 (epoch 1)"),
        (broken_weights, "bbox_head.retina_cls.bias of the student is not finite after step 1"),
    ],
)
def test_a_last_step_that_breaks_the_student_is_recorded_as_diverged(
    workplace: Path, breaks: Callable[[Distilling], None], reason: str
) -> None:
    training = one_step_long(workplace)
    breaks(training.model)
    with openmmlab.scope("mmdet"), own_generators("fp32", torch.device("cpu")):
        record = training.run()
    assert (record.status, record.reason) == ("diverged", reason)
    assert not record.last and record.weights_sha256 is None
    store = Store(workplace / "results", workplace / "runs")
    kept = store.read(training.run_id)
    assert kept is not None and kept.status == "diverged"
    assert not store.paths(training.run_id).student.exists()


MASKD = {"maskd_detection": {"custom_mask_warmup": 0}, "regressionkd": {"tap": "roi.bbox_preds"}}
RCNN = {"student": "faster_rcnn_r50_fpn", "recipe": "coco-2x"}
RCNN["teacher"] = {  # type: ignore[assignment]
    "model": "faster_rcnn_r101_fpn",
    "weights": "mmdet:faster_rcnn_r101_fpn_2x_coco_bbox_mAP-0.398_20200504_210455-1d2dac9c.pth",
}


@pytest.mark.slow
def test_maskd_takes_a_real_step_from_a_suite(workplace: Path) -> None:
    path = suite(workplace, {"MasKD": {"method": MASKD}}, setting=RCNN, profile={"epochs": 1, "train": 2})
    record = carry_out(runs_by_row(path)["MasKD"], workplace)
    assert record.status == "done", record.reason
    terms = {f"maskd_detection.{name}" for name in ("masked", "lost", "dice")} | {"regressionkd.regression"}
    assert terms <= set(record.tracked)
    assert all(value == value and value > 0 for name, value in record.tracked.items() if name in terms)
    store = Store(workplace / "results", workplace / "runs")
    side = torch.load(store.paths(runs_by_row(path)["MasKD"]).side_networks, weights_only=True)
    assert sum("tokens" in name for name in side) == 5, "one set of tokens a level"


def one_step_long(folder: Path) -> DenseTraining:
    run = runs_by_row(suite(folder, profile={"epochs": 1, "train": 2}))["Student"]
    with openmmlab.scope("mmdet"), own_generators("fp32", torch.device("cpu")):
        return DenseTraining(run, settings_in(folder))


def test_the_global_generators_are_given_back(workplace: Path) -> None:
    import random

    import numpy as np

    before = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr, index]
    carry_out(runs_by_row(suite(workplace, profile={"epochs": 1, "train": 2}))["Student"], workplace)
    after = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr, index]
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
