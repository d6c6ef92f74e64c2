"""Every detection row of the paper at full network size: built and tapped by shapes, and a real step of each kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from threading import Event

import pytest

from benchmark.train import honouring
from benchmark.train.trainer import record_from

pytest.importorskip("mmdet", reason="needs pip install '.[dense]'")

import torch
from small import settings_in
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from benchmark.models import openmmlab
from benchmark.models.mmdet import PROPOSALS, teach, uninitialised
from benchmark.models.registry import model
from benchmark.models.taps import Network, resolve_roles
from benchmark.paper.manifest import load, suite_path
from benchmark.plan.experiment import Run, Selection, make_plan
from benchmark.train.dense.generators import own_generators
from benchmark.train.dense.mmengine_loop import DenseTraining
from benchmark.train.dense.trainer import Trainer
from benchmark.train.settings import Settings, Stopped
from benchmark.verify.method_cost import build_on_meta
from methods.base import Annotation, Batch, ImageSize, Method, Moment, Pair

SUITES = ("table4", "table5", "table12", "section_c5", "figure2")
CLASSES, HEIGHT, WIDTH, REGIONS = 80, 256, 384, 512
SIDE = 128  # pixels of a real step's images: what it proves does not depend on them


@cache
def every_run() -> tuple[Run, ...]:
    suites = [load(suite_path(name)) for name in SUITES]
    plan = make_plan(suites, Selection(profile="smoke", all_rows=True, absent=frozenset({"coco2017"})))
    left = [f"{cell.id}: {why}" for cell, why in plan.left_out]
    assert not left, left
    return tuple(run for run in plan.runs if run.repetition == 0)


def named(runs: Iterator[Run]) -> list[object]:
    return [pytest.param(run, id=name_of(run)) for run in runs]


def name_of(run: Run) -> str:
    return f"{run.experiment.pair}-{run.experiment.method.name}-{run.experiment.identity[:4]}"


def is_trained(run: Run) -> bool:
    return run.experiment.recipe is not None


def is_taught(run: Run) -> bool:
    return is_trained(run) and run.experiment.teacher is not None


def kinds_of(run: Run) -> set[object]:
    """What of a row must have been done in earnest somewhere."""
    experiment = run.experiment
    if experiment.recipe is None:
        return {f"evaluates {experiment.teacher_name}"}
    return {(experiment.student, experiment.method.name), experiment.recipe_name, experiment.pair}


def of_each_kind() -> list[Run]:
    """The first rows in the plan's order that together leave no kind out: a teacher comes before its students."""
    seen: set[object] = set()
    found = []
    for run in every_run():
        if kinds_of(run) - seen:
            found.append(run)
        seen |= kinds_of(run)
    return found


# By shapes: every row


@cache
def on_meta(name: str) -> tuple[Network, Mapping[str, tuple[int, ...]]]:
    """A detector at full size without memory, all its roles bound, and their shapes without the batch dimension."""
    with openmmlab.scope("mmdet"), torch.device("meta"), torch.no_grad():
        plain = uninitialised(name, CLASSES).eval()
        network = Network(plain, model(name).adapter(plain), ("*",))
        if hasattr(plain, "roi_head"):
            pool_by_shapes(plain.roi_head.bbox_roi_extractor)  # type: ignore[union-attr, arg-type]
        seen = teach(network, torch.empty(2, 3, HEIGHT, WIDTH), {PROPOSALS: torch.empty(REGIONS, 5)})
    assert set(seen) == set(network.adapter.taps)
    return network, {role: tuple(tensor.shape[1:]) for role, tensor in seen.items()}


def pool_by_shapes(extractor: nn.Module) -> None:
    """Which level a region is pooled from depends on its size, which the meta device does not know."""
    for stage in extractor if isinstance(extractor, nn.ModuleList) else [extractor]:
        width, side = stage.out_channels, stage.roi_layers[0].output_size
        stage.forward = lambda levels, regions, width=width, side=side: levels[0].new_empty(len(regions), width, *side)  # type: ignore[union-attr, method-assign, assignment]


def batch_of_boxes() -> Batch:
    boxes = torch.tensor([[8.0, 8.0, 64.0, 80.0], [3.0, 3.0, 20.0, 100.0]])
    numbers = torch.empty(2, dtype=torch.int64)
    annotations = tuple(Annotation(boxes, torch.tensor([1, 2])) for _ in range(2))
    sizes = tuple(ImageSize((HEIGHT, WIDTH - 4), (HEIGHT, WIDTH)) for _ in range(2))
    return Batch(torch.empty(2, 3, HEIGHT, WIDTH), numbers, numbers, annotations, sizes)


def outputs_of(shapes: Mapping[str, tuple[int, ...]], roles: tuple[str, ...]) -> dict[str, Tensor]:
    return {role: torch.empty(REGIONS if role.startswith("roi.") else 2, *shapes[role]) for role in roles}


def built_by_shapes(run: Run) -> tuple[Method, Pair]:
    """The row's method for its own two networks, on the meta device."""
    (student, shapes), (teacher, taught) = on_meta(run.experiment.student), on_meta(run.experiment.teacher_name)
    pair = Pair(student, teacher, shapes, taught, CLASSES, dataset_size=100, task="detection")
    return build_on_meta(run.experiment.method.make(), pair), pair


@pytest.mark.parametrize("run", named(run for run in every_run() if is_taught(run)))
def test_every_row_is_built_and_tapped(run: Run) -> None:
    """At full size. Its losses, with its very options, are computed by test_detection_methods on tiny detectors."""
    assert honouring.require(run.experiment) == {}
    method, pair = built_by_shapes(run)
    asked = resolve_roles(method.taps, pair.teacher.adapter.taps)
    assert asked and asked == resolve_roles(method.taps, pair.student.adapter.taps)
    assert all(parameter.is_meta for parameter in method.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("run", named(run for run in every_run() if is_taught(run) and run not in of_each_kind()))
def test_gradients_of_the_other_rows_reach_all_that_they_must(run: Run) -> None:
    method, pair = built_by_shapes(run)
    roles = resolve_roles(method.taps, pair.teacher.adapter.taps)
    with FakeTensorMode(allow_non_fake_inputs=True):
        method.to_empty(device="cpu")
        seen = outputs_of(pair.student_shapes, roles)
        for tensor in seen.values():
            tensor.requires_grad_()
        moment = Moment(torch.zeros(()), torch.zeros(()), torch.Generator(), step=torch.zeros(()))
        losses = method.losses(seen, outputs_of(pair.teacher_shapes, roles), batch_of_boxes(), moment)
        sum(losses.terms.values(), torch.zeros(())).backward()  # type: ignore[no-untyped-call]
    assert losses.terms
    assert [role for role, tensor in seen.items() if tensor.grad is None] == []
    assert [name for name, parameter in method.named_parameters() if parameter.grad is None] == []


# In earnest: one row of each kind


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """One place for all rows: images are generated and teachers measured once."""
    return settings_in(tmp_path_factory.mktemp("rows"))


def test_a_row_goes_the_whole_way_to_its_record(settings: Settings) -> None:
    """DiffKD's first on RetinaNet, at the 256 pixels of the tables' smoke profile."""
    taught = (run for run in every_run() if is_taught(run) and run.experiment.student == "retinanet_r50_fpn")
    run = next(run for run in taught if run.experiment.method.name.startswith("diffkd"))
    lines: list[str] = []
    record = record_from(Trainer(replace(settings, say=lines.append)).train(run))
    assert record.status == "done", record.reason
    assert 0 <= record.last["ap"] <= 100
    assert [line for line in lines if "NOT COCO" in line]
    assert record.tracked["task"] > 0
    assert all(value == value for value in record.tracked.values())
    assert record.teacher is not None and "RANDOM" in record.teacher.stand_in
    assert own_terms(record.tracked)
    assert record.effective.mmcv_ops


@pytest.mark.slow
@pytest.mark.parametrize("run", named(iter(of_each_kind())))
def test_a_row_of_each_kind_takes_a_real_step(run: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """At full network size on small images; a teacher's own row is its evaluation."""
    lines: list[str] = []
    settings = replace(settings, say=lines.append, stop=Event())
    monkeypatch.setattr("benchmark.train.dense.detection._SHORT", SIDE)
    if not is_trained(run):
        record = Trainer(settings).evaluate(run)
        assert record.status == "done", record.reason
        assert 0 <= record.last["ap"] <= 100
        assert [line for line in lines if "NOT COCO" in line]
        assert [line for line in lines if "RANDOM WEIGHTS" in line]
        return
    settings.stop.set()  # after the first of two steps, before an evaluation
    with openmmlab.scope("mmdet"), own_generators("fp32", torch.device("cpu")):
        training = DenseTraining(of_two_steps(run), settings)
        with pytest.raises(Stopped):
            training.run()
    means = training.meter.means()
    assert means["task"] > 0
    assert all(value == value for value in means.values()), means
    assert bool(own_terms(means)) == is_taught(run)


def of_two_steps(run: Run) -> Run:
    """An epoch, on small images."""
    recipe = run.experiment.recipe
    assert recipe is not None
    smaller = recipe.model_copy(update={"short_sides": (SIDE,)})
    data = replace(run.experiment.data, train=2 * recipe.batch)
    return Run(replace(run.experiment, recipe=smaller, data=data), run.repetition)


def own_terms(tracked: Mapping[str, float]) -> list[str]:
    """Those of the method."""
    return [name for name in tracked if name not in ("task", "total") and not name.startswith("task.")]


def test_the_rows_of_each_kind_leave_no_network_out() -> None:
    rows, taken = ([run.experiment for run in some] for some in (every_run(), of_each_kind()))
    assert {experiment.pair for experiment in rows} == {experiment.pair for experiment in taken}
