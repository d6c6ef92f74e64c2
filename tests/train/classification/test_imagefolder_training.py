"""Runs on a folder of images: what recipes for ImageNet ask for, shards, and what a smoke run does without weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from imagenet import RECIPE, experiment, settings_in, training

from benchmark.data.locate import OFFLINE
from benchmark.errors import MissingInput, UsageError
from benchmark.machine.ranks import Ranks
from benchmark.models.registry import model
from benchmark.paper.recipe import Recipe, recipe
from benchmark.paper.suite import Preparation, TeacherSpec
from benchmark.records.store import Record
from benchmark.train import honouring
from benchmark.train.engine.shards import draws, shards_of
from benchmark.train.settings import Stopped
from benchmark.train.trainer import record_from

# B2 and B3 in small: everything they ask for at once that can go together.
STRONG: dict[str, Any] = {
    "optimizer": "rmsproptf",
    "lr": 0.01,
    "optimizer_eps": 1e-3,
    "schedule": "exponential",
    "decay": 0.97,
    "decay_epochs": 0.1,
    "warmup_epochs": 0.3,
    "warmup_lr": 1e-6,
    "label_smoothing": 0.1,
    "ema": 0.9,
    "randaugment": "rand-m9-mstd0.5",
    "random_erasing": 0.5,
    "mixup": 0.8,
    "cutmix": 1.0,
    "clip_grad": 5.0,
}


@pytest.fixture
def folder(workplace: Path) -> Path:
    return workplace


def done(folder: Path, asked: Any, place: str = "once") -> Record:
    return record_from(training(asked, settings_in(folder / place)).advancing())


def test_a_run_on_jpeg_files_ends_with_a_record(folder: Path) -> None:
    record = done(folder, experiment())
    assert record.status == "done"
    assert record.data.name == "generated-imagefolder"
    assert set(record.last) == {"top1", "top5", "loss"}
    assert record.effective.per_device_batch == 8


def test_everything_that_the_strong_recipes_ask_for_resumes_bit_for_bit(folder: Path) -> None:
    asked = experiment("kd", teacher="resnet18", student="mobilenetv2_100", dropout=0.2, drop_path=0.1, **STRONG)
    straight = done(folder, asked)
    settings = settings_in(folder / "twice")
    broken = training(asked, settings)
    stepped = broken.one_step

    def stopping(plan: Any) -> None:
        stepped(plan)
        settings.stop.set()

    broken.one_step = stopping  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        record_from(broken.advancing())
    settings.stop.clear()
    assert record_from(training(asked, settings).advancing()).outcome() == straight.outcome()
    assert {"top1", "online.top1"} <= set(straight.last)


def test_the_average_is_what_is_exported(folder: Path) -> None:
    asked = experiment(ema=0.9)
    settings = settings_in(folder)
    run = training(asked, settings)
    record_from(run.advancing())
    assert run.parts.average is not None
    exported = torch.load(run.books.paths.student, weights_only=True)
    averaged = run.parts.average.student.network.state_dict()
    online = run.parts.distiller.student.network.state_dict()
    assert all(torch.equal(exported[name], tensor) for name, tensor in averaged.items())
    assert not torch.equal(exported["fc.weight"], online["fc.weight"])


def test_the_average_follows_by_one_minus_decay(folder: Path) -> None:
    run = training(experiment(ema=0.75), settings_in(folder))
    before = run.parts.distiller.student.network.get_parameter("fc.weight").detach().clone()
    run.one_step(run.data.epoch_plan(0, 0))
    after = run.parts.distiller.student.network.get_parameter("fc.weight").detach()
    assert run.parts.average is not None
    found = run.parts.average.student.network.get_parameter("fc.weight")
    torch.testing.assert_close(found, 0.75 * before + 0.25 * after)


# Shards


def test_batch_norm_sees_the_per_device_batch_and_gradients_are_those_of_the_whole(folder: Path) -> None:
    """Against plain code: each half normalised by itself, the mean of both losses, one backward pass."""
    asked = experiment(per_device_batch=4)
    run = training(asked, settings_in(folder))
    plan = run.data.epoch_plan(0, 0)
    batch = run.data.batch(plan, 0, 8)
    reference = training(asked, settings_in(folder / "other")).parts.distiller.student.network.train()
    halves = [
        torch.nn.functional.cross_entropy(reference(inputs), targets)
        for inputs, targets in zip(batch.inputs.split(4), batch.targets.split(4), strict=True)
    ]
    (sum(halves) / 2).backward()  # type: ignore[union-attr]
    run.one_step(plan)
    for name, parameter in run.parts.distiller.student.network.named_parameters():
        torch.testing.assert_close(parameter.grad, reference.get_parameter(name).grad, rtol=1e-4, atol=1e-6)


def test_running_statistics_follow_the_first_shard_alone(folder: Path) -> None:
    asked = experiment(per_device_batch=4)
    run = training(asked, settings_in(folder))
    plan = run.data.epoch_plan(0, 0)
    first = run.data.batch(plan, 0, 8).inputs[:4]
    reference = training(asked, settings_in(folder / "other")).parts.distiller.student.network.train()
    reference(first)
    run.one_step(plan)
    torch.testing.assert_close(
        run.parts.distiller.student.network.get_buffer("bn1.running_mean"), reference.get_buffer("bn1.running_mean")
    )
    assert int(run.parts.distiller.student.network.get_buffer("bn1.num_batches_tracked")) == 1


def test_a_short_last_batch_is_cut_into_as_many_shards(folder: Path) -> None:
    asked = experiment(per_device_batch=4, data=replace(experiment().data, train=21))
    run = training(asked, settings_in(folder))
    assert run.steps == 3
    plan = run.data.epoch_plan(0, 0)
    sizes = [len(run.data.batch(plan, start, 8).inputs) for start in (0, 8, 16)]
    assert sizes == [8, 8, 4]  # of five left, two each
    assert [len(shard.inputs) for shard in run.parts.shards.cut(run.data.batch(plan, 16, 8))] == [2, 2]


def test_who_can_share_a_batch() -> None:
    b1, b2 = recipe("B1").settings, recipe("B2").settings
    assert [shards_of(b1, Ranks(0, world)) for world in (1, 2, 8)] == [8, 8, 8]
    assert [shards_of(b2, Ranks(0, world)) for world in (1, 2, 8)] == [1, 2, 8]
    with pytest.raises(UsageError, match="256, in parts of 32 cannot be shared by 3 processes") as error:
        shards_of(b1, Ranks(0, 3))
    assert "start 1, 2, 4, 8 of them" in error.value.fix


# Refusals


@pytest.mark.parametrize(
    ("data", "changes", "said"),
    [
        (
            "generated",
            {"augmentation": "crop-flip", "mixup": 0.8},
            r"mixup 0.8: not supported; classification of .* on the device",
        ),
        ("generated", {}, r"augmentation inception: not supported"),
        ("generated-imagefolder", {"augmentation": "crop-flip"}, r"augmentation crop-flip: .* of a folder of images"),
        ("generated-imagefolder", {"iterations": 40}, r"iterations 40: not supported"),
    ],
)
def test_a_recipe_that_would_be_carried_out_in_part_is_refused(data: str, changes: dict[str, Any], said: str) -> None:
    asked = experiment(data=replace(experiment().data, name=data), **changes)
    with pytest.raises(UsageError, match=said):
        honouring.require(asked)


def test_dkd_and_crd_say_that_mixed_targets_are_not_for_them(folder: Path) -> None:
    from benchmark.errors import CannotServe

    for method in ("dkd", {"crd": {"negatives": 8}}):
        run = training(experiment(method, teacher="resnet18", mixup=0.8), settings_in(folder))
        with pytest.raises(CannotServe, match=r"the recipe (mixes|has mixed) images of two"):
            record_from(run.advancing())


# Teachers


def test_a_smoke_run_without_weights_has_a_random_teacher_and_says_so(folder: Path) -> None:
    record = done(folder, experiment("kd", teacher="resnet18"))
    assert record.teacher is not None
    assert record.teacher.stand_in == "randomly initialised"


def test_pinned_weights_are_also_measured_as_their_figure_was(folder: Path) -> None:
    weights = folder / "theirs.pt"
    network = model("resnet14").build(10)
    torch.save(network.state_dict(), weights)
    prepared = Preparation(interpolation="bicubic", crop=0.5)
    given = TeacherSpec(model="resnet14", weights=str(weights), published=50, preparation=prepared)
    asked = replace(experiment("kd"), teacher=given, profile="paper")
    record = done(folder, asked)
    assert record.teacher is not None and record.experiment.teacher is not None
    found = record.teacher.metrics
    assert found.keys() == {"top1", "top5", "loss", "as_published_top1", "as_published_top5", "as_published_loss"}
    assert found["as_published_loss"] != found["loss"]  # other pixels
    assert record.experiment.teacher.preparation == prepared.model_dump()
    plain = done(folder, replace(asked, teacher=given.model_copy(update={"preparation": None})), "plain")
    assert plain.teacher is not None
    assert plain.teacher.metrics == {name: found[name] for name in ("top1", "top5", "loss")}
    # A recipe that resizes otherwise has a measurement of its own, though weights and images are the same.
    assert asked.recipe is not None
    bicubic = replace(asked, recipe=asked.recipe.model_copy(update={"interpolation": "bicubic"}))
    other = done(folder, replace(bicubic, teacher=given.model_copy(update={"preparation": None})), "plain")
    assert other.teacher is not None
    assert other.teacher.metrics["loss"] != found["loss"]


def test_elsewhere_absent_weights_are_an_error_that_names_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))
    monkeypatch.setenv(OFFLINE, "1")
    asked = replace(experiment("kd", teacher="resnet18"), profile="paper")
    with pytest.raises(MissingInput, match=r"resnet18-f37072fd\.pth is not in .*runs/weights or .*torch/hub") as error:
        training(asked, settings_in(folder))
    assert "curl -fL -o" in error.value.fix


def test_weights_are_held_to_the_hash_in_their_name(folder: Path) -> None:
    from benchmark.models.registry import model

    settings = settings_in(folder)
    place = settings.store.runs / "weights" / "resnet18-f37072fd.pth"
    place.parent.mkdir(parents=True)
    torch.save(model("resnet18").build(10).state_dict(), place)
    with pytest.raises(MissingInput, match=r"is not the pinned file: sha256 .*, its own name says f37072fd"):
        training(replace(experiment("kd", teacher="resnet18"), profile="paper"), settings)


def test_networks_that_draw_are_known() -> None:
    from benchmark.models.registry import model

    assert draws(model("mobilenet_v2").build(10))  # torchvision's has dropout
    assert draws(model("efficientnet_b0").build(10, dropout=0.2))
    assert draws(model("swin_tiny").build(10, drop_path=0.2, image_size=64))
    assert not draws(model("resnet18").build(10))
    assert not draws(model("swin_tiny").build(10, image_size=64))


def test_a_recipe_says_nothing_new_where_nothing_new_is_asked() -> None:
    assert RECIPE.canonical() == {"epochs": 1, "batch": 8, "lr": 0.05, "augmentation": "inception"}
    assert isinstance(RECIPE, Recipe)
