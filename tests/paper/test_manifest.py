"""Manifests are typed and strict: all mistakes of a file are reported at once, with lines and nearest names."""

from __future__ import annotations

from pathlib import Path

import pytest
from small import write_suite

from benchmark.cli.parser import main
from benchmark.errors import UsageError
from benchmark.paper.manifest import load, load_all, suite_path
from benchmark.paper.recipe import recipes
from benchmark.plan.experiment import Selection, make_plan

GOOD = """\
suite: mine
title: Mine
source: ours
setting:
  task: classification
  data: cifar100
  teacher: resnet56
  student: resnet20
  recipe: A1
columns:
  - {column: Top-1, metric: top1}
rows:
  - row: KD
    method: kd
    cells: 70.66±0.24
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def problems(folder: Path, *changes: tuple[str, str]) -> list[str]:
    """Return the problems of the good file after some changes, each as `line: message`."""
    text = GOOD
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = written(folder, text)
    with pytest.raises(UsageError) as caught:
        load(path)
    assert caught.value.exit_code == 2
    lines = caught.value.message.splitlines()
    assert all(line.startswith(f"{path}:") for line in lines)
    return [line.removeprefix(f"{path}:") for line in lines]


def test_a_good_file_gives_typed_cells(tmp_path: Path) -> None:
    (cell,) = load(written(tmp_path, GOOD)).cells
    assert (cell.id, cell.value, cell.std, cell.digits, cell.metric) == ("mine/KD/Top-1", 70.66, 0.24, 2, "top1")
    assert cell.setting.student == "resnet20"


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("source: ours", "source: ours\nnotes: none", 4, "unknown key 'notes'; did you mean 'note'?"),
        ("  recipe: A1", "  recipie: A1", 9, "unknown key 'recipie'; did you mean 'recipe'?"),
        ("    method: kd", "    methode: kd", 14, "unknown key 'methode'; did you mean 'method'?"),
        ("    method: kd", "    method: kdd", 14, "unknown method 'kdd'; did you mean 'kd'?"),
        (
            "    method: kd",
            "    method:\n      kd:\n        temprature: 4",
            16,
            "kd.temprature: no such option; did you mean 'temperature'?",
        ),
        (
            "    method: kd",
            "    method: kd\n    options:\n      kd: {temprature: 4}",
            16,
            "kd.temprature: no such option; did you mean 'temperature'?",
        ),
        (
            "  recipe: A1",
            "  recipe: A1\n  options:\n    kd:\n      temprature: 4",
            12,
            "kd.temprature: no such option; did you mean 'temperature'?",
        ),
        (
            "  recipe: A1",
            "  recipe: A1\n  options: {dkdd: {alpha: 1}}",
            10,
            "unknown method 'dkdd'; did you mean 'dkd'?",
        ),
        ("  recipe: A1", "  recipe: A11", 9, "unknown recipe 'A11'; did you mean 'A1'?"),
        ("student: resnet20", "student: renset20", 8, "unknown model 'renset20'; did you mean 'resnet20'?"),
        ("teacher: resnet56", "teacher: resnet57", 7, "unknown model 'resnet57'; did you mean 'resnet56'?"),
        ("data: cifar100", "data: cifar10", 6, "unknown data set 'cifar10'; did you mean 'cifar100'?"),
        (
            "task: classification",
            "task: clasification",
            5,
            "unknown task 'clasification'; did you mean 'classification'?",
        ),
    ],
)
def test_an_unknown_name_is_told_with_its_line_and_the_nearest(
    old: str, new: str, line: int, message: str, tmp_path: Path
) -> None:
    (problem,) = problems(tmp_path, (old, new))
    assert problem.startswith(f"{line}: ")
    assert message in problem


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("title: Mine", "title: [Mine]", 2, "title: input should be a valid string"),
        ("method: kd", "method: 5", 14, "method: input should be a valid string"),
        ("teacher: resnet56", "teacher: 56", 7, "teacher: input should be a valid string"),
        ("source: ours", "source: ours\nrepetitions: 3.5", 4, "repetitions: input should be a valid integer"),
        ("source: ours", 'source: ours\nrepetitions: "3"', 4, "repetitions: input should be a valid integer"),
        ("source: ours", "source: ours\nrepetitions: true", 4, "repetitions: input should be a valid integer"),
        ("source: ours", "source: ours\nrepetitions: 0", 4, "greater than 0"),
        ("method: kd", 'method: {kd: {temperature: "4"}}', 14, "kd.temperature: input should be a valid number"),
        ("method: kd", "method: {kd: {temperature: true}}", 14, "kd.temperature: input should be a valid number"),
        ("method: kd", "method: {kd: {temperature: 0}}", 14, "kd.temperature: input should be greater than 0"),
        ("method: kd", "method: {kd: 4}", 14, "the options of 'kd' are 4"),
        ("method: kd", "method: [kd, {kd: {temperature: 2}}]", 14, "'kd' is there twice"),
        ("method: kd", "method: {diffkd: {feature_distance: vid}}", 14, "vid is no distance between two tensors"),
        ("method: kd", "method: {diffkd: {feature_distance: {mse: {wait: 1}}}}", 14, "did you mean 'weight'?"),
        ("teacher: resnet56", "teacher: {model: resnet56}", 7, "the key 'weights' is missing"),
        ("teacher: resnet56", "teacher: {model: resnet56, weights: a, sha: b}", 7, "unknown key 'sha'"),
        ("teacher: resnet56", "teacher: {model: resnet56, weights: a, mirror: 'http://b/a'}", 7, "'a' are not at an"),
        (
            "teacher: resnet56",
            "teacher: {model: resnet56, weights: a, preparation: {interpolation: bicubic, crop: 0.9}}",
            7,
            "preparation: images of cifar100 are not prepared as it says",
        ),
        ("cells: 70.66±0.24", "cells: 70.66 71", 15, "2 cells for 1 columns in 'KD'"),
        ("cells: 70.66±0.24", "cells: ca.70", 15, "'ca.70' is not a number such as 71.98 or 72.24±0.24, nor -"),
        ("suite: mine", "suite: yours", 1, "`suite` is 'yours', but the file is named mine.yaml"),
        ("title: Mine", "title: Mine\ntitle: Again", 3, "'title' is given twice"),
        ("method: kd", "method: kd\n    pending: [method kd]", 15, "marked pending, but it exists"),
        ("method: kd", "method: kd\n    pending: [someday]", 15, "must begin with one of method"),
    ],
)
def test_a_wrong_value_is_told_with_its_line(old: str, new: str, line: int, message: str, tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, (old, new))
    assert problem.startswith(f"{line}: ")
    assert message in problem


def test_all_problems_of_a_file_come_together_in_the_order_of_their_lines(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        ("title: Mine", "titel: Mine\nrepetitions: many"),
        ("student: resnet20", "student: resnet21"),
        ("recipe: A1", "recipe: A11"),
        ("{column: Top-1, metric: top1}", "{metric: top1, recipes: A1}"),
        ("    method: kd", "    method: {kd: {temprature: 4, weigth: 1}, dkdd: {}}"),
        ("cells: 70.66±0.24", "cells: many"),
    )
    assert [problem.partition(" (")[0].partition("; ")[0] for problem in found] == [
        "1: the key 'title' is missing",
        "2: unknown key 'titel'",
        "3: repetitions: input should be a valid integer",
        "9: unknown model 'resnet21'",
        "10: unknown recipe 'A11'",
        "12: the key 'column' is missing",
        "12: unknown key 'recipes'",
        "15: kd.temprature: no such option",
        "15: kd.weigth: no such option",
        "15: unknown method 'dkdd'",
        "16: 'many' is not a number such as 71.98 or 72.24±0.24, nor -",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a suite is a mapping"),
        ("- a\n- b\n", "a suite is a mapping"),
        ("suite: [\n", "mine.yaml:2: "),
        ("suite: a: b\n", "mine.yaml:1: mapping values are not allowed"),
        ("suite: mine\ntitle: !python/object:os.system x\n", "mine.yaml:2: could not determine a constructor"),
        ("suite: mine\ntitle: 2020-13-45\n", "mine.yaml"),
    ],
)
def test_a_file_that_is_no_manifest_is_an_error_not_a_crash(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(written(tmp_path, text))
    assert message in caught.value.message


def test_a_file_in_another_encoding_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes("title: é".encode("latin1"))
    with pytest.raises(UsageError, match="is not a UTF-8 text"):
        load(path)


def test_problems_of_several_files_come_together(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_suite(tmp_path / f"{name}.yaml", {"Row": {"method": f"{name}-method"}})
    with pytest.raises(UsageError) as caught:
        load_all(tmp_path)
    assert "'first-method'" in caught.value.message
    assert "'second-method'" in caught.value.message


def test_the_command_line_prints_every_problem_and_the_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, GOOD.replace("kd\n", "kdd\n").replace("resnet20", "resnet21"))
    assert main(["plan", str(path)]) == 2
    shown = capsys.readouterr().err
    assert f"{path}:8: unknown model 'resnet21'" in shown
    assert f"{path}:14: unknown method 'kdd'" in shown
    assert "fix: " in shown


def test_an_exponent_needs_no_point(tmp_path: Path) -> None:
    text = GOOD.replace("method: kd", "method: {kd: {weight: 1e-3}}")
    (cell,) = load(written(tmp_path, text)).cells
    method = cell.method()
    assert method is not None
    assert method.resolved()["kd"]["weight"] == 0.001


def test_a_row_wins_over_its_column_and_both_over_the_suite(tmp_path: Path) -> None:
    path = write_suite(
        tmp_path / "layers.yaml",
        {"Own": {"method": "kd", "student": "resnet20"}, "Columns": {"method": "kd"}},
        setting={"student": "resnet32", "options": {"kd": {"temperature": 2, "weight": 3}}},
        columns=[{"column": "A", "student": "resnet14", "options": {"kd": {"temperature": 8}}}, {"column": "B"}],
    )
    cells = {(cell.row, cell.column): cell for cell in load(path).cells}
    assert cells["Own", "A"].setting.student == "resnet20"
    assert cells["Columns", "A"].setting.student == "resnet14"
    assert cells["Columns", "B"].setting.student == "resnet32"
    method = cells["Columns", "A"].method()
    assert method is not None
    assert method.as_yaml() == {"kd": {"temperature": 8.0, "weight": 3.0}}  # joined by option, the column's on top


def test_a_cell_of_a_row_can_have_settings_of_its_own(tmp_path: Path) -> None:
    columns = [{"column": "A", "recipe": "A1-small"}, {"column": "B"}]
    rows = {"Row": {"method": "none", "student": "resnet20", "by_column": {"A": {"student": "resnet14"}}}}
    suite = load(write_suite(tmp_path / "own.yaml", rows, columns=columns))
    cells = {cell.column: cell.setting for cell in suite.cells}
    assert (cells["A"].student, cells["A"].recipe) == ("resnet14", "A1-small")
    assert cells["B"].student == "resnet20"
    rows["Row"]["by_column"] = {"C": {"student": "resnet14"}}
    with pytest.raises(UsageError, match=r"own.yaml:\d+: no column 'C'; valid: A, B"):
        load(write_suite(tmp_path / "own.yaml", rows, columns=columns))
    rows["Row"]["by_column"] = {"A": {"student": "resnet15"}}
    with pytest.raises(UsageError, match=r"own.yaml:\d+: unknown model 'resnet15'"):
        load(write_suite(tmp_path / "own.yaml", rows, columns=columns))


def test_a_suite_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    assert suite_path("table9").name == "table9.yaml"
    assert suite_path(str(written(tmp_path, GOOD))) == tmp_path / "mine.yaml"
    with pytest.raises(UsageError, match="no suite 'tabel9'") as caught:
        suite_path("tabel9")
    assert "did you mean 'table9'?" in caught.value.fix


def test_recipes_are_as_strict(tmp_path: Path) -> None:
    path = tmp_path / "recipes.yaml"
    path.write_text(
        "A:\n"
        "  source: ours\n"
        "  settings: {epochs: 2, batch: 4, lr: 0.1}\n"
        "B:\n"
        "  source: ours\n"
        "  base: AA\n"
        "C:\n"
        "  source: ours\n"
        "  base: A\n"
        '  settings: {epoch: 3, lr: "1"}\n'
        "D: 3\n"
    )
    with pytest.raises(UsageError) as caught:
        recipes(path)
    lines = [line.removeprefix(f"{path}:") for line in caught.value.message.splitlines()]
    assert lines[0].startswith("6: there is no recipe 'AA' above this one; did you mean 'A'?")
    assert any(line.startswith("10: unknown key 'epoch'; did you mean 'epochs'?") for line in lines)
    assert any(line.startswith("10: lr: input should be a valid number (got '1')") for line in lines)
    assert lines[-1].startswith("11: the recipe D needs `settings`")


def test_an_expected_ordering_names_two_rows(tmp_path: Path) -> None:
    rows = {"KD": {"method": "kd"}, "Plain": {"method": "none"}}
    assert load(write_suite(tmp_path / "fine.yaml", rows, expected=["KD > Plain"])).file.expected == ["KD > Plain"]
    with pytest.raises(UsageError) as caught:
        load(write_suite(tmp_path / "wrong.yaml", rows, expected=["KD > Plian", "KD", "KD > KD"]))
    assert "expected 'KD > Plian': no row 'Plian'; did you mean 'Plain'?" in caught.value.message
    assert "expected 'KD' is not an ordering of two rows, such as DiffKD > KD" in caught.value.message
    assert "expected 'KD > KD' is not an ordering" in caught.value.message


def test_a_setting_can_be_chosen_on_training_images_held_out(tmp_path: Path) -> None:
    path = write_suite(tmp_path / "choice.yaml", {"KD": {"method": "kd"}}, setting={"holdout": 300})
    plan = make_plan([load(path)], Selection())
    assert {experiment.data.holdout for experiment in plan.experiments.values()} == {300}  # the teacher's too
    other = make_plan([load(write_suite(tmp_path / "plain.yaml", {"KD": {"method": "kd"}}))], Selection())
    assert not plan.experiments.keys() & other.experiments.keys()


DENSE = """\
suite: mine
title: Mine
source: ours
setting: {task: detection, data: coco2017, student: retinanet_r50_fpn, recipe: coco-2x-one-stage}
columns:
  - {column: AP, metric: ap}
rows:
  - {row: Student, method: none}
profiles:
  smoke: {train: 2, short_side: 64}
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "said", "fix"),
    [
        ("short_side: 64", "crop: [48, 96]", 10, "crop is the size of images in segmentation", "write short_side"),
        (
            "coco-2x-one-stage",
            "cityscapes-40k",
            4,
            "recipe 'cityscapes-40k' has iterations 40000, crop (512, 1024), ",
            "coco-2x, ",
        ),
        (
            "coco-2x-one-stage",
            "cityscapes-40k",
            4,
            "evaluate_steps 800, schedule poly, augmentation segmentation: not",
            "coco-1x, ",
        ),
        ("coco-2x-one-stage", "A1", 4, "has augmentation crop-flip: not supported; detection honours", "coco-2x, "),
    ],
)
def test_plan_refuses_the_words_of_another_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, line: int, said: str, fix: str
) -> None:
    path = written(tmp_path, DENSE)
    assert [cell.id for cell in load(path).cells] == ["mine/Student/AP"]
    path.write_text(DENSE.replace(old, new))
    assert main(["plan", str(path)]) == 2
    told = capsys.readouterr().err
    assert f"{path}:{line}: " in told
    assert said in told and fix in told
