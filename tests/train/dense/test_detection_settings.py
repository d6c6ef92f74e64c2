"""The suites' recipes and teachers against mmdet's own; errors that say what is missing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from small import run_suite, store_in

pytest.importorskip("mmdet", reason="needs pip install '.[dense]'")

from detection_runs import suite
from mmengine.registry import PARAM_SCHEDULERS

from benchmark.errors import MissingInput
from benchmark.models import mmdet, openmmlab
from benchmark.paper.manifest import load, suite_path
from benchmark.paper.recipe import recipe
from benchmark.paper.suite import TeacherSpec
from benchmark.train import weights
from benchmark.train.dense.configuration import optim_wrapper, schedulers

STEPS = math.ceil(117_266 / 16)  # an epoch of train2017 without the images that show nothing
TWICE = {
    "faster_rcnn_r50_fpn": "coco-2x",
    "retinanet_r50_fpn": "coco-2x-one-stage",
    "reppoints_r50": "coco-2x-one-stage",
    "fcos_r50": "coco-2x-fcos",
}


@pytest.mark.parametrize("model", TWICE)
def test_the_2x_recipes_are_mmdets_own(model: str) -> None:
    own = mmdet.configuration(model)
    settings = recipe(TWICE[model]).settings
    assert (settings.batch, settings.per_device_batch) == (16, 2)
    assert settings.epochs == own.train_cfg.max_epochs == 24
    ours: dict[str, Any] = optim_wrapper(own, settings, "fp32")
    for key in ("optimizer", "clip_grad", "paramwise_cfg"):
        assert ours.get(key) == own.optim_wrapper.get(key)
    wanted = [dict(entry) for entry in own.param_scheduler]
    found = schedulers(own, settings, STEPS, 24 * STEPS)
    for one, other in zip(found, wanted, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert other[key] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value), key


def test_the_1x_recipe_is_mmdets_own() -> None:
    own = openmmlab.configs("mmdet") / "retinanet" / "retinanet_r50_fpn_1x_coco.py"
    from mmengine.config import Config

    found = schedulers({}, recipe("coco-1x-one-stage").settings, STEPS, 12 * STEPS)
    assert [entry["type"] for entry in found] == ["LinearLR", "MultiStepLR"]
    assert found[1]["milestones"] == Config.fromfile(own).param_scheduler[1].milestones
    assert found[1]["end"] == 12


@pytest.mark.parametrize("model", ["retinanet_r50_fpn", "fcos_r50"])
def test_a_warm_up_shorter_than_a_step_ends_with_it(model: str) -> None:
    """A linear and a constant one, as a profile of few images shortens them."""
    settings = recipe(TWICE[model]).settings.scaled_to(6)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], settings.lr)
    found: list[float] = []
    with openmmlab.scope("mmdet"):
        entries = schedulers(mmdet.configuration(model), settings, 2, 12)
        parts = [PARAM_SCHEDULERS.build({**entry, "optimizer": optimizer}) for entry in entries]
    for step in range(8):  # before the first milestone
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for part in parts:
            if not part.by_epoch or step % 2:
                part.step()
    assert found == pytest.approx([settings.warmup_lr] + [settings.lr] * 7)


def test_every_published_teacher_is_in_the_model_zoo_and_carries_its_hash() -> None:
    seen: set[str] = set()
    for name in ("table4", "table5", "table12", "section_c5", "figure2"):
        for cell in load(suite_path(name)).every_cell:
            teacher = cell.setting.teacher
            assert isinstance(teacher, TeacherSpec)
            kind, _, file = teacher.weights.partition(":")
            assert kind == "mmdet" and weights._HASHED.search(file)
            assert teacher.published is not None
            if file not in seen:
                assert weights.address(teacher.weights).startswith("https://download.openmmlab.com/mmdetection/")
            seen.add(file)
    assert len(seen) == 9


def test_a_file_that_is_not_the_published_one_is_refused(tmp_path: Path) -> None:
    name, store = "retinanet_r101_fpn_2x_coco_20200131-5560aee8.pth", store_in(tmp_path)
    (store.runs / "weights").mkdir(parents=True)
    (store.runs / "weights" / name).write_bytes(b"something else")
    with pytest.raises(MissingInput, match="is not the pinned file"):
        weights.weights_file(f"mmdet:{name}", store)


def test_a_name_that_the_model_zoo_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="model zoo has no file nothing-12345678"):
        weights.weights_file("mmdet:nothing-12345678.pth", store_in(tmp_path))


def test_without_weights_only_a_smoke_run_goes_on(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = suite(workplace)
    assert run_suite(path, "--profile", "mini", "--only", "Student", "--yes") == 3
    shown = capsys.readouterr()
    assert "COCO 2017 is not in" in shown.out + shown.err
    assert "--profile smoke" in shown.out + shown.err


def test_without_the_packages_the_error_says_what_to_install(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openmmlab, "find_spec", lambda name: None)
    openmmlab.prepare.cache_clear()
    assert run_suite(suite(workplace), "--only", "Student") == 3
    shown = capsys.readouterr()
    assert "detection and segmentation need mmengine, mmcv, mmdet, mmseg, not installed here" in shown.out
    assert "pip install '.[dense]'" in shown.out
