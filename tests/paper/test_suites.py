"""The paper's numbers: their count, a second independent reading of them, and the experiments that they stand for."""

from __future__ import annotations

import csv
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmark.paper.manifest import load, load_all, suite_files
from benchmark.paper.recipe import recipes
from benchmark.paper.suite import Cell, Suite, TeacherSpec, method_of
from benchmark.plan.experiment import STATIC_METRICS

SECOND_READING = Path(__file__).parent / "published" / "second_reading.csv"

# Counted by hand in the paper and the slides.
PRINTED = {
    "2": 4 * 9,
    "3": 5 * 7,  # a teacher's number, printed once across three or two rows, counts in each
    "4": (6 * 6 + 4) + (6 * 6 + 4) + (5 * 6 + 4),  # FGD's rows have four numbers
    "5": (6 * 6 + 4) + (6 * 6 + 4) + (5 * 6 + 4),
    "6": 11 * 4 + 11 * 4,
    "7": 6,
    "8": 2 * 6,
    "9": 10 * 6,
    "10": 2 * 6,
    "11": 3 * 2,
    "12": 2 * 6,
    "fig4": 5,
    "c6": 3,
    "kdiffusion-cifar100": 10 * 5,
    "kdiffusion-imagenet100": 7 * 5,
    "kdiffusion-pilot": 4 * 3,
}
STANDARD_DEVIATIONS = 8 * 6  # Table 9, all methods
WITHOUT_NUMBERS = {"c5", "figure2", "figure5", "figure6"}
NOT_CELLS = {"1"}  # Table 1 is the recipes

METRICS = {"top1", "top5", "top1_gain", "ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "miou", "miou_test"}
METRICS |= {"gpu_days", *STATIC_METRICS}


@cache
def all_suites() -> tuple[Suite, ...]:
    return tuple(load_all())


def suites() -> list[Suite]:
    return [suite for suite in all_suites() if suite.file.paper != "none"]


@cache
def cells() -> dict[str, Cell]:
    return {cell.id: cell for suite in suites() for cell in suite.cells}


def printed(table: str) -> list[Cell]:
    return [cell for cell in cells().values() if cell.table == table and cell.printed is not None]


@pytest.mark.parametrize("path", suite_files(), ids=lambda path: path.stem)
def test_every_suite_loads(path: Path) -> None:
    assert load(path).cells


def test_cell_ids_are_unique_over_all_suites() -> None:
    ids = [cell.id for suite in all_suites() for cell in suite.cells]
    assert [name for name, count in Counter(ids).items() if count > 1] == []


@pytest.mark.parametrize("table", PRINTED)
def test_every_printed_number_is_a_cell(table: str) -> None:
    assert len(printed(table)) == PRINTED[table]


def test_only_table_9_prints_standard_deviations() -> None:
    found = Counter(cell.table for cell in cells().values() if cell.std is not None)
    assert found == {"9": STANDARD_DEVIATIONS}


def test_suites_without_published_numbers_are_the_known_ones() -> None:
    empty = {suite.file.table or suite.name for suite in suites() if not any(cell.printed for cell in suite.cells)}
    assert empty == WITHOUT_NUMBERS
    assert {cell.table for cell in cells().values()} == WITHOUT_NUMBERS | set(PRINTED)


# A second reader's file: one line a number, tables and rows in the paper's order.


def number(text: str) -> str:
    """Return the digits as printed, without plus signs, percent signs, and units of millions or GPUs."""
    match = re.search(r"[+-]?\d+(?:\.\d+)?", text.replace("−", "-"))
    return match[0].lstrip("+") if match else ""


def table_name(text: str) -> str:
    name = text.strip().lower().replace("_", "-").replace("figure", "fig")
    return re.sub(r"^(table|section)|[ .]", "", name)


@cache
def second_reading() -> dict[str, list[tuple[str, str]]]:
    assert SECOND_READING.is_file(), f"{SECOND_READING} is missing: nobody has read the tables a second time"
    found: dict[str, list[tuple[str, str]]] = {}
    with SECOND_READING.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            value, _, joined = line["value"].partition("±")
            if number(value):
                pair = (number(value), number(line["std"] or joined))
                found.setdefault(table_name(line["table"]), []).append(pair)
    return found


def first_reading(table: str) -> list[tuple[str, str]]:
    parts = [str(cell.printed).partition("±") for cell in printed(table)]
    return [(number(value), std) for value, _, std in parts]


@pytest.mark.parametrize("table", PRINTED)
def test_a_second_reading_has_the_same_numbers(table: str) -> None:
    ours, theirs = Counter(first_reading(table)), Counter(second_reading().get(table, []))
    assert (ours - theirs, theirs - ours) == (Counter(), Counter())


@pytest.mark.parametrize("table", PRINTED)
def test_a_second_reading_has_them_in_the_same_places(table: str) -> None:
    assert first_reading(table) == second_reading().get(table, [])


def test_a_second_reading_found_no_further_tables() -> None:
    assert set(second_reading()) - NOT_CELLS <= set(PRINTED)


# What the cells stand for.


def experiment(name: str) -> dict[str, Any]:
    """Return the settings that decide a cell's training, without those that are pending."""
    setting = cells()[name].setting
    teacher = setting.teacher
    return {
        "task": setting.task,
        "data": setting.data,
        "student": setting.student,
        "student_weights": setting.student_weights,
        "teacher": (teacher.model, teacher.weights) if isinstance(teacher, TeacherSpec) else teacher,
        "method": method_of(setting).canonical(),
        "recipe": setting.recipe,
        "precision": setting.precision,
    }


SHARED = {
    "DiffKD on MobileNetV1": [
        "table2/MBV1 (R50) Top-1/DiffKD",
        "table2/MBV1 (R50) Top-5/DiffKD",
        "table7/DiffKD (feature + logits)/Top-1",
        "table8/Top-1 (%)/1024",
        "table10/Top-1 (%)/1024",
        "table11/MobileNetV1 (ResNet-50), B1/w/ ANM",
        "figure4/ACC (%)/NFE 5",
        "figure5/DiffKD/Top-1",
        "figure6/DiffKD/Top-1",
    ],
    "DiffKD on ResNet-18": [
        "table2/R18 (R34) Top-1/DiffKD",
        "table11/ResNet-18 (ResNet-34), B1/w/ ANM",
        "section_c6/DiffKD/Extra FLOPs (M)",
    ],
    "DiffKD on MobileNetV2": [
        "table3/MobileNetV2 (ResNet-50)/DiffKD",
        "table11/MobileNetV2 (ResNet-50-SB), B2/w/ ANM",
    ],
    "plain MobileNetV1": ["table2/MBV1 (R50) Top-1/Stu.", "table7/w/o KD/Top-1"],
    "MSE on MobileNetV1": ["table2/MBV1 (R50) Top-1/MSE", "table7/MSE/Top-1"],
    "plain Faster RCNN-R50": [
        "table4/Two-stage detectors/S: Faster RCNN-R50/AP",
        "table5/Two-stage detectors/S: Faster RCNN-R50/AP",
    ],
    "VID on MobileNetV2": [
        "kdiffusion_cifar100/Multiple Layers/VID/ResNet50 -> MobileNetV2",
        "table9/VID/ResNet-50 -> MobileNetV2",
    ],
}


@pytest.mark.parametrize("names", SHARED.values(), ids=SHARED)
def test_cells_that_mean_one_experiment_say_the_same(names: list[str]) -> None:
    found = [experiment(name) for name in names]
    if experiment(names[0])["method"][0]["name"] == "none":  # a plain student has no teacher
        found = [one | {"teacher": None} for one in found]
    assert all(one == found[0] for one in found)


def test_cells_of_an_ablation_differ() -> None:
    for table, count in {"8": 6, "fig4": 6, "11": 6}.items():
        names = [cell.id for cell in cells().values() if cell.table == table and cell.metric == "top1"]
        found = {repr(experiment(name)) for name in names}
        assert (table, len(found)) == (table, count)


def test_table_10_repeats_table_8() -> None:
    by_name = {suite.name: suite for suite in suites()}
    assert by_name["table10"].file.repeats == "table8"
    tables = [[(c.row, c.column, c.printed) for c in by_name[name].cells] for name in ("table8", "table10")]
    assert tables[0] == tables[1]


def test_every_cell_says_what_it_measures_and_whose_it_is() -> None:
    lacking = [
        cell.id
        for cell in cells().values()
        if cell.metric not in METRICS
        or not (cell.setting.task and cell.setting.data and cell.setting.student and cell.setting.teacher)
        or cell.setting.standing is None
        or (cell.setting.method is None and cell.setting.subject != "teacher")
    ]
    assert lacking == []


def test_every_cited_number_has_a_source() -> None:
    assert [cell.id for cell in cells().values() if cell.standing == "cited" and not cell.setting.source] == []


def test_every_method_cell_has_a_recipe() -> None:
    assert all(cell.setting.recipe is not None for cell in cells().values() if cell.setting.method)


def test_no_classification_waits_for_data_networks_or_recipes() -> None:
    waiting = {
        (cell.id, marker)
        for cell in cells().values()
        if cell.setting.task == "classification" or cell.setting.data in ("cifar100", "imagenet", "imagenet100")
        for marker in cell.setting.pending or ()
        if not marker.startswith(("option", "measurement"))
    }
    assert waiting == set()


def test_repetitions_are_three_on_cifar_and_one_elsewhere() -> None:
    for suite in suites():
        expected = 3 if suite.cells[0].setting.data == "cifar100" else 1
        assert (suite.name, suite.file.repetitions) == (suite.name, expected)


def test_every_recipe_has_a_source() -> None:
    assert [name for name, recipe in recipes().items() if not recipe.source] == []


def test_the_recipes_of_table_1() -> None:
    found = recipes()
    table_1 = {
        "A1": (240, 64, 0.05, "sgd", 5e-4, 0.0, None),
        "B1-paper": (100, 256, 0.1, "sgd", 1e-4, 0.0, None),
        "B2-paper": (450, 768, 0.048, "rmsproptf", 1e-5, 0.1, 0.9999),
        "B3-paper": (300, 1024, 5e-4, "adamw", 5e-2, 0.1, None),
    }
    for name, row in table_1.items():
        r = found[name].settings
        assert row == (r.epochs, r.batch, r.lr, r.optimizer, r.weight_decay, r.label_smoothing, r.ema)
    a1 = {"epochs": 240, "batch": 64, "lr": 0.05, "weight_decay": 5e-4, "milestones": [150, 180, 210]}
    assert found["A1"].settings.canonical() == a1
