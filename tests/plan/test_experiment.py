"""Identities: they contain what decides an outcome and nothing else, and existing experiments keep theirs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small import ROOT, plan_of, runs_of, write_suite

from benchmark.errors import UsageError
from benchmark.paper.manifest import load, suite_path
from benchmark.paper.recipe import Recipe, recipe
from benchmark.paper.suite import Cell, Preparation, TeacherSpec
from benchmark.plan.experiment import Data, Experiment, Selection, experiment_of, make_plan
from benchmark.records.facts import ExperimentSettings
from methods.registry import methods
from methods.spec import MethodSpec


def experiment(**changes: Any) -> Experiment:
    settings: dict[str, Any] = {
        "task": "classification",
        "data": Data("cifar100"),
        "student": "resnet20",
        "method": MethodSpec.parse("kd"),
        "recipe": recipe("A1").settings,
        "recipe_name": "A1",
        "teacher": TeacherSpec(model="resnet56", weights="a.pt", sha256="ab" * 32),
    }
    return Experiment(**(settings | changes))


DEFAULTS = json.loads((Path(__file__).parents[1] / "golden" / "defaults.json").read_text())


@pytest.mark.parametrize("name", DEFAULTS["methods"])
def test_a_changed_default_raises_the_methods_revision(name: str) -> None:
    # An identity leaves out what is at its default: another default under the same revision would be another
    # experiment of the same identity.
    known, entry = DEFAULTS["methods"][name], methods()[name]
    if entry.revision == known["revision"]:
        assert known["defaults"].items() <= entry.options().model_dump(mode="json").items()
    assert entry.revision >= known["revision"]


def test_the_defaults_of_recipes_stay_what_they_are() -> None:
    current = Recipe(epochs=1, batch=1, lr=1).model_dump(mode="json")
    assert {name: current[name] for name in DEFAULTS["recipe"]} == DEFAULTS["recipe"]


CHANGES: dict[str, dict[str, Any]] = {
    "task": {"task": "detection"},
    "data": {"data": Data("imagenet")},
    "subset": {"data": Data("cifar100", train=500)},
    "subset seed": {"data": Data("cifar100", subset_seed=1)},
    "student": {"student": "resnet32"},
    "student's start": {"student_weights": "b.pt"},
    "method": {"method": MethodSpec.parse("dkd")},
    "option": {"method": MethodSpec.parse({"kd": {"temperature": 2}})},
    "recipe": {"recipe": recipe("A1-small").settings},
    "global batch": {"recipe": recipe("A1").settings.model_copy(update={"batch": 128})},
    "per-device batch": {"recipe": recipe("A1").settings.model_copy(update={"per_device_batch": 32})},
    "teacher": {"teacher": TeacherSpec(model="resnet110", weights="a.pt", sha256="ab" * 32)},
    "teacher's weights": {"teacher": TeacherSpec(model="resnet56", weights="a.pt", sha256="cd" * 32)},
    "profile": {"profile": "mini"},
    "precision": {"precision": "bf16"},
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_decides_an_outcome_is_in_the_identity(name: str) -> None:
    assert experiment(**CHANGES[name]).identity != experiment().identity


def test_all_changes_give_different_identities() -> None:
    found = {experiment(**changes).identity for changes in CHANGES.values()}
    assert len(found) == len(CHANGES)


def test_paths_labels_and_defaults_written_out_are_not_in_the_identity() -> None:
    moved = TeacherSpec(model="resnet56", weights="/elsewhere/b.pt", sha256="ab" * 32, published=72.34, source="x")
    assert experiment(teacher=moved).identity == experiment().identity
    prepared = moved.model_copy(update={"preparation": Preparation(interpolation="bicubic", crop=0.95)})
    assert experiment(teacher=prepared).identity == experiment().identity
    assert experiment(recipe_name="another name").identity == experiment().identity
    explicit = MethodSpec.parse({"kd": {"temperature": 4, "weight": 0.9, "task_weight": 0.1}})
    assert experiment(method=explicit).identity == experiment().identity
    assert experiment(recipe=Recipe(**recipe("A1").settings.model_dump())).identity == experiment().identity


def test_the_order_of_a_sum_is_not_in_the_identity() -> None:
    one, other = MethodSpec.parse({"kd": {}, "mse": {}}), MethodSpec.parse("mse+kd")
    assert experiment(method=one).identity == experiment(method=other).identity


def test_a_trained_teacher_counts_by_its_own_identity() -> None:
    teacher = experiment(student="resnet56", method=MethodSpec.parse("none"), teacher=None)
    student = experiment(teacher=teacher)
    assert student.canonical()["teacher"] == {"experiment": teacher.identity}
    longer = replace(teacher, recipe=recipe("A1").settings.model_copy(update={"epochs": 480}))
    assert experiment(teacher=longer).identity != student.identity


METHOD = """
from methods.base import LOGITS, Losses, Method
from methods.options import MethodOptions, option


class Growing(Method):
    '''A method that gains an option.'''

    taps = (LOGITS,)
    revision = {revision}

    class Options(MethodOptions):
        weight: float = option(1.0, "of the term", source="ours")
{more}
"""


@pytest.fixture
def growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Register successive versions of one method, each from another folder, as later checkouts would have it."""

    def state(more: str = "", revision: int = 1) -> None:
        folder = tmp_path / f"state{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "growing.py").write_text(METHOD.format(more=more, revision=revision))
        monkeypatch.setenv("BENCHMARK_EXTRA", str(folder))

    yield state


def identities() -> list[str]:
    specs: tuple[Any, ...] = ("growing", {"growing": {"weight": 3}}, "growing+kd")
    return [experiment(method=MethodSpec.parse(spec)).identity for spec in specs]


def test_a_new_option_with_a_default_changes_no_identity(growing: Any) -> None:
    growing()
    before = identities()
    growing('        scale: float = option(2.0, "new", source="ours")')
    assert "scale" in methods()["growing"].options.model_fields
    assert identities() == before
    changed = experiment(method=MethodSpec.parse({"growing": {"scale": 1}})).identity
    assert changed not in before


def test_a_raised_revision_changes_every_identity_of_the_method(growing: Any) -> None:
    growing()
    before = identities()
    growing(revision=2)
    assert not set(before) & set(identities())


def test_a_raised_revision_of_a_nested_distance_changes_the_outer_identity(
    growing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = methods()
    before = experiment(method=MethodSpec.parse("diffkd")).identity
    raised = known | {"mse": replace(known["mse"], revision=known["mse"].revision + 1)}
    monkeypatch.setattr("methods.registry.methods", lambda: raised)
    assert experiment(method=MethodSpec.parse("diffkd")).identity != before


def test_a_new_recipe_setting_at_its_default_changes_no_identity() -> None:
    class Later(Recipe):
        swa_epochs: int = 0

    later = Later(**recipe("A1").settings.model_dump())
    assert experiment(recipe=later).identity == experiment().identity
    assert experiment(recipe=later.model_copy(update={"swa_epochs": 5})).identity != experiment().identity


def available(cell: Cell) -> Cell:
    """Return the cell as it will be when nothing that it needs is pending."""
    return replace(cell, setting=cell.setting.model_copy(update={"pending": None}))


SHARED = (
    "table2/MBV1 (R50) Top-1/DiffKD",
    "table2/MBV1 (R50) Top-5/DiffKD",
    "table7/DiffKD (feature + logits)/Top-1",
    "table8/Top-1 (%)/1024",
    "figure4/ACC (%)/NFE 5",
    "table11/MobileNetV1 (ResNet-50), B1/w/ ANM",
)


def test_one_training_serves_the_cells_of_five_tables() -> None:
    found = {}
    for cell_id in SHARED:
        suite = load(suite_path(cell_id.partition("/")[0]))
        (cell,) = [cell for cell in suite.cells if cell.id == cell_id]
        experiment = experiment_of(available(cell), "paper", suite.profile("paper"))
        assert experiment is not None
        found[cell_id] = experiment.identity
    assert len(set(found.values())) == 1, found


def test_a_plan_has_each_experiment_once_and_teachers_first(tmp_path: Path) -> None:
    rows = {"KD": {"method": "kd"}, "KD again": {"method": "kd"}, "Student": {"method": "none"}}
    plan = plan_of(write_suite(tmp_path / "twice.yaml", rows, profile={"repetitions": 2}))
    labels = [run.label for run in plan.runs]
    assert len(labels) == len(set(labels))
    assert labels.index("generated/resnet14/none #0") < labels.index("generated/resnet14-resnet8/kd #0")
    assert "generated/resnet14/none #1" not in labels  # all repetitions use repetition 0 of their teacher
    (shared,) = [cells for cells in plan.cells.values() if len(cells) == 2]
    assert {cell.row for cell in shared} == {"KD", "KD again"}


def test_suites_share_their_experiments(tmp_path: Path) -> None:
    suites = [load(write_suite(tmp_path / f"{name}.yaml")) for name in ("one", "two")]
    one, both = make_plan(suites[:1], Selection()), make_plan(suites, Selection())
    assert [run.label for run in one.runs] == [run.label for run in both.runs]
    assert all(len(both.cells[identity]) == 2 * len(cells) for identity, cells in one.cells.items())


def test_an_interrupted_study_has_whole_tables_of_fewer_repetitions(tmp_path: Path) -> None:
    rows = {"KD": {"method": "kd"}, "Student": {"method": "none"}}
    plan = plan_of(write_suite(tmp_path / "order.yaml", rows, profile={"repetitions": 3}))
    numbers = [run.repetition for run in plan.runs]
    assert numbers == sorted(numbers)


def test_cited_rows_wait_for_all_or_only(tmp_path: Path) -> None:
    rows: dict[str, dict[str, Any]] = {"KD": {"method": "kd", "standing": "cited"}, "DKD": {"method": "dkd"}}
    path = write_suite(tmp_path / "cited.yaml", rows)
    taken = [plan_of(path, **how).cells for how in ({}, {"all_rows": True}, {"only": ("kd",)})]
    assert [sorted(cell.row for cells in found.values() for cell in cells) for found in taken] == [
        ["DKD"],
        ["DKD", "KD"],
        ["KD"],
    ]


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no row, column, method or pair matches --only 'nothing'"):
        plan_of(write_suite(tmp_path / "none.yaml"), only=("nothing",))


def test_only_the_paper_profile_is_the_paper(tmp_path: Path) -> None:
    suite = load(suite_path("table9"))
    found = {
        profile: make_plan([suite], Selection(profile=profile, only=("diffkd",))).experiments
        for profile in ("paper", "smoke")
    }
    assert not set(found["paper"]) & set(found["smoke"])


def test_a_shorter_recipe_keeps_its_proportions() -> None:
    short = recipe("A1").settings.scaled_to(24)
    assert (short.epochs, short.milestones, short.lr) == (24, (15, 18, 21), 0.05)
    assert recipe("A1").settings.scaled_to(2).milestones == (1,)


def test_a_described_experiment_has_every_setting_in_force() -> None:
    described = experiment().describe()
    in_force = {"temperature": 4.0, "weight": 0.9, "task_weight": 0.1, "tap": "logits", "scores": "softmax"}
    assert described["method"]["kd"] == in_force
    assert described["recipe"]["momentum"] == 0.9  # a default, yet in force
    assert described["recipe"]["milestones"] == [150, 180, 210]
    assert described["precision"] == "fp32"


def test_a_raised_revision_below_the_method_enters_identity_and_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = (ROOT / "benchmark/models/cifar/resnet.py").read_text()
    identities, raised = {}, {}
    for revision in (1, 2):
        folder = tmp_path / str(revision)
        folder.mkdir()
        changed = re.sub(
            r"^MODELS\b.*?^}",
            'MODELS = {"own8": {"depth": 8, "widths": (16, 16, 32, 64)}}',
            network,
            flags=re.DOTALL | re.MULTILINE,
        )
        (folder / "own.py").write_text(changed + f'\nREVISIONS = {{"own8": {revision}}}\n')
        monkeypatch.setenv("BENCHMARK_EXTRA", str(folder))
        suite = write_suite(tmp_path / f"own{revision}.yaml", {"Own": {"method": "none", "student": "own8"}})
        (run,) = runs_of(suite).values()
        identities[revision], raised[revision] = run.experiment.identity, run.experiment.raised()
    assert identities[1] != identities[2]
    assert raised == {1: {}, 2: {"network own8": 2}}


@pytest.mark.parametrize("part", ["optimizer sgd", "schedule step", "augmentation crop-flip"])
def test_a_raised_revision_of_a_choice_of_the_recipe_enters_too(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = write_suite(tmp_path / "one.yaml", {"Student": {"method": "none"}})
    before = runs_of(suite)["Student"].experiment
    monkeypatch.setattr("benchmark.plan.experiment.REVISIONS", {part: 2, "schedule poly": 3})
    after = replace(before)
    assert after.raised() == {part: 2}
    assert after.identity != before.identity
    assert ExperimentSettings.of(after).revisions == {"none": 1, part: 2}
