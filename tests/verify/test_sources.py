"""Every setting of suites and recipes has the value that its source states, or a reason."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small import ROOT

from benchmark.cli import verify as command
from benchmark.cli.parser import main
from benchmark.errors import UsageError
from benchmark.verify import sources
from benchmark.verify.findings import SourcesHeld
from benchmark.verify.sources import check

COVERED = ("table2", "table3", "table4", "table5", "table6", "table9", "recipes/")  # all of their settings
Change = Callable[[str, str, str], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "suites", tmp_path / "suites"))


@pytest.fixture
def change(folder: Path) -> Change:
    def replace(name: str, old: str, new: str) -> None:
        text = (folder / name).read_text()
        assert text.count(old) == 1, f"{name} has {old!r} {text.count(old)} times"
        (folder / name).write_text(text.replace(old, new))

    return replace


def line_of(path: Path, text: str) -> int:
    return next(number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def test_no_setting_contradicts_its_source_unexplained() -> None:
    found = check()
    assert found.problems == []
    assert found.facts > 500
    assert [setting for setting in found.uncovered if setting.startswith(COVERED)] == []


def test_the_values_before_their_correction_are_found(folder: Path, change: Change) -> None:
    change("table2.yaml", "dist: {beta: 1, gamma: 1, tau: 1, weight: 2}", "dist: {beta: 1, gamma: 1, tau: 1}")
    change("table3.yaml", "dist: {beta: 1, gamma: 1, tau: 1, weight: 2}", "dist: {beta: 1, gamma: 1, tau: 1}")
    change("table3.yaml", "temperature: 4, weight: 1, task_weight: 0.9", "temperature: 1, weight: 1, task_weight: 1")
    change("recipes.yaml", "operations: sota, random_erasing: 0.25,", "operations: sota, random_erasing: 0.2,")
    change("recipes.yaml", "warmup_epochs: 20, after_warmup: true", "warmup_epochs: 20")
    change(
        "recipes.yaml", "interpolation: bicubic,\n     randaugment: rand-m9-mstd0.5,", "randaugment: rand-m9-mstd0.5,"
    )
    change(
        "recipes.yaml",
        "no_decay: [relative_position_bias_table], schedule: cosine, min_lr: 5",
        "schedule: cosine, min_lr: 5",
    )
    change("recipes.yaml", "randaugment_operations: sota, random_erasing: 0.2}", "random_erasing: 0.2}")
    found = check(folder)
    facts, sota = folder / "sources" / "image_classification_sota.yaml", "image_classification_sota, configs/strategies"
    two, three = folder / "table2.yaml", folder / "table3.yaml"
    wrong = [problem for problem in found.problems if "README" not in problem]
    kd = f"{three}:{line_of(three, 'temperature: 1, weight')} has 1.0"
    assert [problem.replace(f"{facts}:", "") for problem in wrong][:4] == [
        f"{line_of(facts, '{table2/*/DIST: dist.weight}')} says dist.weight 2 ({sota}/distill/resnet_dist.yaml); "
        f"{two}:{line_of(two, 'method: {dist')} has 1.0, the default",
        f"{line_of(facts, '{table3/*/DIST: dist.weight}')} says dist.weight 2 ({sota}/distill/dist_b2.yaml); "
        f"{three}:{line_of(three, 'method: {dist')} has 1.0, the default",
        f"{line_of(facts, 'kd.temperature')} says kd.temperature 4 ({sota}/distill/resnet_kdt4.yaml); {kd}",
        f"{line_of(facts, 'ori_loss_weight')} says kd.task_weight 0.9 ({sota}/distill/resnet_kdt4.yaml); {kd}",
    ]
    recipes = folder / "recipes.yaml"
    b2, b3 = (line_of(recipes, text) for text in ("dropout: 0.2, augmentation", "random_erasing: 0.2,"))
    named = re.findall(r"says (\S+) \S+ .*; \S+recipes.yaml:(\d+) has (.*)", "\n".join(wrong[4:]))
    assert {(setting, value) for setting, _, value in named} == {
        ("randaugment_operations", "timm, the default"),
        ("random_erasing", "0.2"),
        ("interpolation", "bilinear, the default"),
        ("no_decay", "[], the default"),
        ("after_warmup", "False, the default"),
    }
    assert len(named) == len(wrong) - 4
    assert all(abs(int(line) - b2) < 8 or abs(int(line) - b3) < 12 for _, line, _ in named)
    (readme,) = set(found.problems) - set(wrong)
    assert "dist.yaml" in readme and "kd.temperature 4 (DIST, README.md:66)" in readme and readme.endswith(kd)


OWN = """source: Theirs
repository: them/theirs
commit: "1234567"
files:
  - path: train.sh
    facts:
"""


def own(folder: Path, *facts: str) -> Path:
    """Leave only Table 9 and the recipes, held to these facts."""
    for path in folder.glob("*.yaml"):
        if path.stem not in ("table9", "recipes", "profiles"):
            path.unlink()
    shutil.rmtree(folder / "sources")
    (folder / "sources").mkdir()
    path = folder / "sources" / "theirs.yaml"
    path.write_text(OWN + "".join(f"      - {fact}\n" for fact in facts))
    return path


def test_a_setting_of_a_base_recipe_is_found_where_it_is_written(folder: Path) -> None:
    facts = own(folder, "{line: 3, key: wd, value: 0.1, holds: {recipes/A1-small: weight_decay}}")
    recipes = folder / "recipes.yaml"
    written = f"{recipes}:{line_of(recipes, 'milestones: [150')} has 0.0005"
    assert check(folder).problems == [f"{facts}:7 says weight_decay 0.1 (Theirs, train.sh:3); {written}"]


def test_cited_swin_rows_are_held_to_the_code_that_their_source_names(folder: Path, change: Change) -> None:
    change("table3.yaml", "&swin_code {recipe: swin}", "&swin_code {recipe: B3}")
    problems = check(folder).problems
    assert problems and all("says recipe swin (DIST, README.md:76)" in problem for problem in problems)
    line = line_of(folder / "table3.yaml", "&swin_code")  # not that of the row's recipe, over which it wins
    assert any(problem.endswith(f"table3.yaml:{line} has B3") for problem in problems)


def test_a_reason_that_is_no_longer_needed_is_a_problem(folder: Path) -> None:
    own(folder, "{line: 3, key: T, value: 4, holds: {table9/KD: kd.temperature}, differs: no longer}")
    (problem,) = check(folder).problems
    assert "says that kd.temperature differs from 4 (Theirs, train.sh:3)" in problem
    assert problem.endswith("has 4.0 too: remove `differs`")


def test_settings_have_a_fact_a_reason_or_neither(folder: Path) -> None:
    own(
        folder,
        "{line: 3, key: T, value: 4, holds: {table9/KD: kd.temperature}}",
        "{line: 4, key: a, value: 0.5, holds: {table9/KD: kd.weight}, differs: ours is better}",
        "{line: 5, key: wd, value: 0.9, means: 0.1, note: what is left, holds: {table9/KD/WRN*: kd.task_weight}}",
        "{line: 6, key: seed, value: 1, about: [table9/KD], differs: no setting has it}",
    )
    (folder / "sources" / "unstated.yaml").write_text('- {holds: {table9: "kd.[st]*"}, because: ours}\n')
    found = check(folder)
    assert (found.facts, found.held, found.differing, found.unsourced, found.problems) == (4, 1, 1, 3, [])
    assert found.unsettable == ["table9/KD: seed 1 (Theirs, train.sh:6): no setting has it"]
    assert not [setting for setting in found.uncovered if setting.startswith("table9: kd.")]
    assert "table9: crd.negatives 16384" in found.uncovered and "recipes/A1: lr 0.05" in found.uncovered


@pytest.mark.parametrize(
    ("holds", "told"),
    [
        ("table9/KDD: kd.temperature", "no row and no recipe is named 'table9/KDD'; did you mean 'table9/KD'?"),
        ("recipes/A1-smal: lr", "no row and no recipe is named 'recipes/A1-smal'; did you mean 'recipes/A1-small'?"),
        ("table9/KD: kd.temprature", "table9/KD has no setting 'kd.temprature'; did you mean 'kd.temperature'?"),
        ("recipes/A1: lrr", "recipes/A1 has no setting 'lrr'; did you mean 'lr'?"),
    ],
)
def test_what_no_suite_has_is_told_with_the_nearest(folder: Path, holds: str, told: str) -> None:
    facts = own(folder, f"{{line: 3, key: T, value: 4, holds: {{{holds}}}}}")
    (problem,) = check(folder).problems
    assert problem.startswith(f"{facts}:7: {told}")


@pytest.mark.parametrize(
    ("fact", "told"),
    [
        ("{line: 3, key: T, value: [4, holds: {}}", "expected"),
        ("{lien: 3, key: T, value: 4, holds: {table9/KD: kd.temperature}}", "did you mean 'line'?"),
        ("{key: T, value: 4, holds: {table9/KD: kd.temperature}}", "needs its `line`"),
        ("{line: 3, key: T, value: 4}", "holds nothing"),
        ("{line: 3, key: T, value: four, means: 4, holds: {table9/KD: kd.temperature}}", "must say why"),
        ("just a text", "no entry of keys and values"),
    ],
)
def test_a_broken_fact_is_told_with_its_line(folder: Path, fact: str, told: str) -> None:
    path = own(folder, fact)
    with pytest.raises(UsageError) as error:
        check(folder)
    assert error.value.message.startswith(f"{path}:7: ")
    assert told in error.value.message
    assert "CONTRIBUTING.md" in error.value.fix


def test_the_command_lists_and_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert command  # its module, whose function imports what is replaced here
    found = SourcesHeld(facts=3, held=2, uncovered=["table2: kd.scores softmax"], unsettable=["table9/CRD: replace"])
    monkeypatch.setattr(sources, "check", lambda: found)
    assert main(["verify", "sources"]) == 0
    said = capsys.readouterr().out
    assert "2 of 3 settings covered by 3 facts" in said
    assert "  table2: kd.scores softmax\n" in said and "  table9/CRD: replace\n" in said
    found.problems.append("dist.yaml:14 says weight 2; table2.yaml:47 has 1")
    assert main(["verify", "sources", "--json"]) == 5
    shown = capsys.readouterr()
    assert json.loads(shown.out)["problems"] == found.problems
    assert shown.err.startswith(found.problems[0]) and "fix: set it as its source does" in shown.err


@pytest.mark.parametrize("arguments", ["list suites", "status table9"])
def test_what_lists_suites_reads_no_sources(arguments: str, tmp_path: Path) -> None:
    code = f"""
import sys
from benchmark.cli.parser import main
main({arguments.split()!r})
assert "benchmark.paper.sources" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)
