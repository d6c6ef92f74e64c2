"""Every table on ImageNet runs through its own manifest on generated JPEG files, without a network or weights."""

from __future__ import annotations

import json
import math
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Forked
from imagenet import settings_in, training
from small import call, record_of, run_suite, store_in

from benchmark.cli.parser import main
from benchmark.data.generated_folder import Request, generate
from benchmark.data.locate import DataSource
from benchmark.models.registry import model
from benchmark.models.taps import resolve_roles
from benchmark.paper.datasets import IMAGE_FOLDERS
from benchmark.paper.manifest import load, load_all, suite_path
from benchmark.paper.suite import Suite, TeacherSpec
from benchmark.plan.experiment import Experiment, Plan, Run, Selection, make_plan
from benchmark.records.store import Record
from benchmark.train.checkpoint import tensors_sha256
from benchmark.train.classification.trainer import Trainer
from benchmark.train.classification.training import Training
from benchmark.train.trainer import record_from
from benchmark.train.weights import address
from benchmark.verify.method_cost import build_on_meta, pair_on_meta
from methods.base import Pair

SUITES = (
    *("table2", "table3", "table7", "table8", "table10", "table11"),
    *("figure4", "figure5", "figure6", "section_c6", "kdiffusion_imagenet100", "kdiffusion_pilot"),
)
# A cell of each table, for the whole way to its record and its line in the report. Table 7 goes it by default,
# Table 2 in the test that kills it.
CELLS = (
    "table3/MobileNetV2 (ResNet-50)/DiffKD",
    "table8/Top-1 (%)/w/o AE",
    "table11/ResNet-18 (ResNet-34), B1/w/o ANM",
    "figure4/ACC (%)/NFE 3",
    "kdiffusion_imagenet100/Multiple Layer/Kdiffusion/Swin -> ShuffleNetV1",
)
STANDS_IN = "generated images stand in, teachers are randomly initialised"


def smoke(suites: list[Suite], **more: object) -> Plan:
    absent = frozenset(IMAGE_FOLDERS)
    return make_plan(suites, Selection(profile="smoke", all_rows=True, stand_in=True, absent=absent, **more))  # type: ignore[arg-type]


def records(folder: Path) -> Iterator[Record]:
    for path in sorted((folder / "runs" / "records").rglob("r0.json")):
        yield Record.model_validate(json.loads(path.read_text()))


@pytest.mark.parametrize("name", [name for name in SUITES if name != "section_c6"])  # whose numbers are static
def test_every_cell_that_a_run_can_fill_has_an_experiment(name: str) -> None:
    plan = smoke([load(suite_path(name))])
    assert plan.left_out == []
    assert {experiment.data.name for experiment in plan.experiments.values()} == {"generated-imagefolder"}
    assert {experiment.data.image_size for experiment in plan.experiments.values()} == {64}


def test_these_are_all_suites_on_imagenet() -> None:
    on_imagenet = {suite.name for suite in load_all() for cell in suite.cells if "imagenet" in str(cell.setting.data)}
    assert on_imagenet == set(SUITES)


def test_one_training_serves_the_cells_of_five_tables() -> None:
    """Table 2's DiffKD on MobileNetV1 is a cell of Tables 7, 8, 10, 11 and Figures 4 and 5."""
    plan = make_plan([load(suite_path(name)) for name in SUITES], Selection(all_rows=True))
    served = [{cell.suite for cell in cells} for cells in plan.cells.values()]
    assert max(served, key=len) >= {"table2", "table7", "table8", "table10", "table11", "figure4"}


def test_the_paper_profile_is_at_full_size() -> None:
    plan = make_plan([load(suite_path("table2"))], Selection(all_rows=True))
    asked: list[Experiment] = list(plan.experiments.values())
    assert {(one.data.name, one.data.image_size, one.data.train) for one in asked} == {("imagenet", None, None)}
    assert {one.recipe.per_device_batch for one in asked if one.recipe and one.recipe_name == "B1"} == {32}


@pytest.mark.slow
def test_a_cell_of_each_table_ends_with_its_record_and_in_its_report(workplace: Path) -> None:
    names = [cell.partition("/")[0] for cell in CELLS]
    chosen = [argument for cell in CELLS for argument in ("--only", cell)]
    here = ["--profile", "smoke", "--threads", "1", "--device", "cpu"]
    assert main(["run", *(str(suite_path(name)) for name in names), *chosen, *here]) == 0
    found = list(records(workplace))
    assert {record.status for record in found} == {"done"}
    assert len(found) == len(CELLS) + 1  # Table on ImageNet-100 trains its teacher
    assert all(record.teacher.stand_in for record in found if record.teacher and "stand_in" in record.teacher)
    for name in names:
        assert STANDS_IN in (workplace / "runs" / "records" / "smoke" / f"{name}.md").read_text()


@cache
def planned() -> Plan:
    return smoke([load(suite_path(name)) for name in SUITES])


def words(options: Any) -> Any:
    """A method's options without their numbers, which change no path through the code."""
    if isinstance(options, dict):
        return {name: words(value) for name, value in options.items()}
    if isinstance(options, list):
        return [words(value) for value in options]
    return options if isinstance(options, str | bool) else "a number"


def kinds_of(asked: Experiment) -> set[str]:
    """What of an experiment must have taken a step somewhere."""
    if asked.recipe is None:
        return {f"evaluates {asked.teacher_name}"}
    return {
        f"trains {asked.student}",
        f"{asked.method.name} by {asked.recipe_name}",
        json.dumps(words(asked.method.as_yaml()), sort_keys=True),
    }


def of_each_kind() -> list[Experiment]:
    """The first experiments in the plan's order that together leave no kind out."""
    seen: set[str] = set()
    found = []
    for asked in planned().experiments.values():
        if kinds_of(asked) - seen:
            found.append(asked)
        seen |= kinds_of(asked)
    return found


def name_of(asked: Experiment) -> str:
    return f"{asked.pair}-{asked.method.name}-{asked.identity[:4]}"


@pytest.mark.parametrize("name", [name for name in SUITES if name != "section_c6"])
def test_every_row_is_built_and_tapped(name: str) -> None:
    """By shapes, at full size. The losses of each, by shapes too, are `verify`'s (test_verify)."""
    plan = make_plan([load(suite_path(name))], Selection(all_rows=True))
    assert plan.left_out == []
    for asked in plan.experiments.values():
        if asked.recipe is None or asked.teacher is None:
            continue
        pair = pair_of(asked.student, asked.teacher_name, asked.data.name)
        method = build_on_meta(asked.method.make(), pair)
        assert resolve_roles(method.taps, pair.student_shapes) and resolve_roles(method.taps, pair.teacher_shapes)
        assert all(parameter.is_meta for parameter in method.parameters())


@cache
def pair_of(student: str, teacher: str, data: str) -> Pair:
    return pair_on_meta(student, teacher, data)


@pytest.fixture(scope="module")
def one_step(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Experiment], None]:
    """Trains an experiment for a step. Images, networks and trained teachers are made once."""
    settings = settings_in(tmp_path_factory.mktemp("rows"))

    def step(asked: Experiment) -> None:
        teacher = asked.teacher
        if isinstance(teacher, Experiment) and settings.store.weights(Run(teacher, 0)) is None:
            assert record_from(training(teacher, settings).advancing()).status == "done"
        if asked.recipe is None:
            assert Trainer(settings).evaluate(Run(asked, 0)).status == "done"
        else:
            take_a_step(training(asked, settings))

    return step


def take_a_step(begun: Training) -> None:
    """After it all terms and all gradients of the student are numbers. Its weights may stay: B3 warms up from 0."""
    begun.one_step(begun.data.epoch_plan(0, 0))
    found = begun.meter.means()
    assert found and all(math.isfinite(value) for value in found.values()), found
    student = begun.parts.distiller.student.network
    gradients = [parameter.grad for parameter in student.parameters() if parameter.grad is not None]
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    assert any(bool(gradient.any()) for gradient in gradients)


def with_small_teacher(asked: Experiment) -> Experiment:
    """Swin-T in the place of Swin-L, which teaches a step of its own below."""
    teacher = asked.teacher
    if isinstance(teacher, TeacherSpec) and teacher.model == "swin_large":
        return replace(asked, teacher=teacher.model_copy(update={"model": "swin_tiny"}))
    return asked


@pytest.mark.slow
@pytest.mark.parametrize("asked", [pytest.param(asked, id=name_of(asked)) for asked in of_each_kind()])
def test_a_row_of_each_kind_takes_a_step(asked: Experiment, one_step: Callable[[Experiment], None]) -> None:
    one_step(with_small_teacher(asked))


# Published weights of teachers


def given_teachers() -> list[TeacherSpec]:
    cells = (cell for name in SUITES for cell in load(suite_path(name)).cells)
    found = {str(cell.setting.teacher): cell.setting.teacher for cell in cells}
    return [teacher for teacher in found.values() if isinstance(teacher, TeacherSpec)]


def test_libraries_know_the_very_files_that_the_suites_name() -> None:
    given = given_teachers()
    assert {teacher.model for teacher in given} == {"resnet34", "resnet50", "swin_large"}
    assert all(teacher.source.endswith(f"file {address(teacher.weights).rpartition('/')[2]}") for teacher in given)


@pytest.mark.slow
def test_swin_large_is_read_from_its_authors_file_and_teaches(tmp_path: Path) -> None:
    """Table 3's teacher: its file's layout is not timm's. Random weights in that layout, and images of 1000 classes."""
    (spec,) = (teacher for teacher in given_teachers() if teacher.model == "swin_large")
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in model("swin_large").build(1000).state_dict().items()}
    weights = {name: torch.empty(shape).uniform_(-0.1, 0.1) for name, shape in shapes.items()}
    images = generate(tmp_path / "imagenet", Request(classes=1000, train=1000, test=1000, scale=0.03))
    settings = settings_in(tmp_path)
    settings.source = DataSource("folder", data_dir=images)
    file = settings.store.runs / "weights" / address(spec.weights).rpartition("/")[2]
    file.parent.mkdir(parents=True)
    torch.save({"model": as_its_authors_have_it(weights)}, file)

    only = ("table3/Swin-T (Swin-L)/DiffKD",)
    (run,) = make_plan([load(suite_path("table3"))], Selection(profile="smoke", only=only)).runs
    begun = training(run.experiment, settings)
    teacher = begun.parts.teacher
    assert teacher is not None and (teacher.source, teacher.stands_in) == (file.name, False)
    assert teacher.weights_sha256 == tensors_sha256(weights)
    take_a_step(begun)


def as_its_authors_have_it(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The layout of Swin Transformer's own files: stages end with what makes maps smaller, buffers are kept."""

    def stage_before(found: re.Match[str]) -> str:
        return f"layers.{int(found[1]) - 1}.downsample"

    named = {re.sub(r"^layers\.(\d)\.downsample", stage_before, name): tensor for name, tensor in state.items()}
    named |= {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49, dtype=torch.int64)}
    named |= {"layers.0.blocks.1.attn_mask": torch.zeros(64, 49, 49)}
    return {name.replace("head.fc.", "head."): tensor for name, tensor in named.items()}


def test_a_row_of_table_7_in_the_default_tests(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_suite(suite_path("table7"), "--profile", "smoke", "--only", "KL div.") == 0
    (record,) = records(workplace)
    assert record.status == "done"
    assert record.teacher is not None and record.teacher.stand_in == "randomly initialised"
    assert record.effective.shards_a_step == 8  # 16 images as 256 are shared by eight devices
    assert "NOTE: ImageNet not found: generated images stand in" in capsys.readouterr().out
    assert STANDS_IN in (workplace / "runs" / "records" / "smoke" / "table7.md").read_text()


def test_without_imagenet_the_paper_profile_says_what_is_missing(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_suite(suite_path("table7"), "--yes") == 3
    shown = capsys.readouterr().err
    assert "ImageNet is not in" in shown and "--profile smoke" in shown


@pytest.mark.slow
@pytest.mark.timeout(1800)  # a minute on a machine of one's own
def test_a_row_of_table_2_killed_in_mid_run_ends_as_one_never_killed(workplace: Path) -> None:
    """kill -9 after its first step is saved. DiffKD's row: eight shards, and noise of the method's own."""
    row = "table2/R18 (R34) Top-1/DiffKD"
    (run,) = smoke([load(suite_path("table2"))], only=(row,)).runs
    arguments = ["run", "table2", "--profile", "smoke", "--only", row, "--threads", "1", "--device", "cpu"]
    whole_run = call(*arguments, "--results-dir", "whole/results", "--runs-dir", "whole/runs")
    assert whole_run.returncode == 0, whole_run.stderr

    paths, log = store_in(workplace).paths(run), workplace / "log.txt"
    process = Forked([*arguments, "--checkpoint-seconds", "0"], log)
    try:
        while process.poll() is None and not paths.checkpoint.exists():
            time.sleep(0.005)
    finally:
        assert process.kill() == -signal.SIGKILL, log.read_text()
    assert not paths.record.exists(), log.read_text()
    assert Forked(arguments, log).wait(600) == 0, log.read_text()
    assert "resuming from epoch 1, step 1" in log.read_text()

    whole, parts = record_of(run, workplace / "whole"), record_of(run, workplace)
    assert parts.outcome() == whole.outcome()
    assert (parts.interruptions, whole.interruptions) == (1, 0)
    assert parts.teacher is not None and parts.teacher.stand_in == "randomly initialised"
    assert STANDS_IN in (workplace / "runs" / "records" / "smoke" / "table2.md").read_text()
    reference = store_in(workplace / "whole").paths(run)
    assert paths.curves.read_text() == reference.curves.read_text()
    mine, theirs = (torch.load(each.student, weights_only=True) for each in (paths, reference))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
