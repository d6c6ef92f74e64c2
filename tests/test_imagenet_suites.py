"""Every table on ImageNet runs through its own manifest on generated JPEG files, without a network or weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from small import run_suite

from benchmark.commands.planning import find_folder
from benchmark.experiment import Experiment, Plan, Selection, make_plan
from benchmark.manifest import Suite, load, load_all, suite_path
from benchmark.records import Record

SUITES = (
    *("table2", "table3", "table7", "table8", "table10", "table11"),
    *("figure4", "figure5", "figure6", "section_c6", "kdiffusion_imagenet100", "kdiffusion_pilot"),
)
# One row of each table that takes seconds; `slow` takes all of them.
ROWS = {
    "table2": "DiffKD†",
    "table3": "MobileNetV2*",
    "table7": "DiffKD (logits)",
    "table8": "w/o AE",
    "table11": "ResNet-18*",
    "figure4": "NFE 3",
    "kdiffusion_imagenet100": "Swin -> ShuffleNetV1",
}


def smoke(suites: list[Suite], **more: object) -> Plan:
    absent = frozenset(find_folder.NAMES)
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
@pytest.mark.parametrize(("name", "row"), ROWS.items())
def test_a_row_of_each_table_ends_with_its_record(name: str, row: str, workplace: Path) -> None:
    assert run_suite(suite_path(name), "--profile", "smoke", "--only", row) == 0
    found = list(records(workplace))
    assert found and {record.status for record in found} <= {"done", "skipped"}
    assert any(record.status == "done" for record in found)
    assert all(record.teacher["stand_in"] for record in found if record.teacher and "stand_in" in record.teacher)
    table = (workplace / "reports" / f"{name}.md").read_text()
    assert "generated images stand in, teachers are randomly initialised" in table


def test_a_row_of_table_7_in_the_default_tests(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_suite(suite_path("table7"), "--profile", "smoke", "--only", "KL div.") == 0
    (record,) = records(workplace)
    assert record.status == "done"
    assert record.teacher is not None and record.teacher["stand_in"] == "randomly initialised"
    assert record.effective["shards_a_step"] == 8  # 16 images as 256 are shared by eight devices
    assert "NOTE: imagenet not found: generated images stand in" in capsys.readouterr().out


def test_without_imagenet_the_paper_profile_says_what_is_missing(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_suite(suite_path("table7"), "--yes") == 3
    shown = capsys.readouterr().err
    assert "imagenet is not in" in shown and "--profile smoke" in shown
