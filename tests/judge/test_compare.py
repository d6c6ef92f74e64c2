"""Records against published numbers: each rule on a case built for it, and every kind of odd input."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from written_records import (
    CLAIMS,
    RERUN,
    SETTING,
    TABLE,
    TIGHT,
    USUAL,
    WIDE,
    Bench,
    around,
    cell_of,
    edit,
    experiment,
    find,
    other_machine,
    problems,
    record_of,
    write,
)

from benchmark.errors import UsageError
from benchmark.judge.contrasts import OrderVerdict
from benchmark.judge.protocol import why_not_comparable
from benchmark.judge.verdicts import Verdict
from benchmark.judge.views import plain
from benchmark.paper.suite import Suite
from benchmark.plan.experiment import Run
from benchmark.records.evidence import ProblemKind
from benchmark.records.facts import ExperimentSettings


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def suite(bench: Bench) -> Suite:
    return bench.table()


def with_rows(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"rows": list(rows), **more}


# Rule 1: static cells


STATIC_ROWS = with_rows(
    {"row": "Network", "method": "none", "cells": "0.28"},
    columns=[{"column": "Params (M)", "metric": "params_m"}],
)


def write_static(bench: Bench, **entry: Any) -> None:
    known = {"printed": "0.28", "metric": "params_m", "about": "resnet20", "verdict": "equal", "reason": "it rounds"}
    bench.store.results.mkdir(parents=True, exist_ok=True)
    found = {"version": 1, "cells": {"small/Network/Params (M)": known | entry}}
    (bench.store.results / "static.json").write_text(json.dumps(found))


@pytest.mark.parametrize(("value", "verdict"), [(0.2783, Verdict.EQUAL), (0.3, Verdict.DIFFERS)])
def test_rule_1_compares_a_cost_with_what_was_verified(bench: Bench, value: float, verdict: Verdict) -> None:
    bench.table(**STATIC_ROWS)
    write_static(bench, convention="parameters", value=value, true=0.31, true_counts="all of it")
    cell = bench.cell("Network", column="Params (M)")
    assert cell.verdict is verdict
    assert cell.measured == value
    assert cell.judgement is not None and cell.judgement.convention == "parameters"
    assert "counted in full: 0.31 (all of it)" in cell.notes


def test_a_cost_that_nobody_verified_names_the_command(bench: Bench) -> None:
    bench.table(**STATIC_ROWS)
    cell = bench.cell("Network", column="Params (M)")
    assert cell.verdict is Verdict.NOT_RUN
    assert cell.judgement is not None and cell.judgement.reason == "python -m benchmark verify"


def test_a_cost_verified_for_another_printed_number_does_not_count(bench: Bench) -> None:
    bench.table(**STATIC_ROWS)
    write_static(bench, printed="0.27", convention="parameters", value=0.2783)
    cell = bench.cell("Network", column="Params (M)")
    assert cell.verdict is Verdict.NOT_RUN
    assert cell.judgement is not None and "0.27 was verified" in cell.judgement.reason


@pytest.mark.parametrize("text", ["{", '{"version": 99}', '{"version": 1}', '{"version": 1, "cells": {"a": {"b": 1}}}'])
def test_static_results_that_cannot_be_used_are_said(bench: Bench, suite: Suite, text: str) -> None:
    bench.store.results.mkdir(parents=True)
    (bench.store.results / "static.json").write_text(text)
    (said,) = problems(bench.compare(), ProblemKind.STATIC)
    assert "static.json" in said and "python -m benchmark verify" in said


# Rule 2: what stands before any statistic


def test_rule_2_not_run(bench: Bench, suite: Suite) -> None:
    cell = bench.cell("KD")
    assert cell.verdict is Verdict.NOT_RUN
    assert cell.judgement is not None and "no run of this experiment" in cell.judgement.reason


def test_rule_2_not_run_names_what_is_not_available(bench: Bench) -> None:
    bench.table(**with_rows({"row": "FGD", "method": "unborn", "pending": ["method unborn"], "cells": "71.00"}))
    cell = bench.cell("FGD")
    assert cell.verdict is Verdict.NOT_RUN
    assert cell.judgement is not None and "method unborn" in cell.judgement.reason
    assert cell.experiment is None and cell.achieved is None


def test_rule_2_not_run_where_the_method_cannot_serve_the_pair(bench: Bench, suite: Suite) -> None:
    made = experiment(suite, "KD")
    write(bench.store, made, [0.0], status="skipped", reason="needs equal stages", last={}, best={})
    cell = bench.cell("KD")
    assert cell.verdict is Verdict.NOT_RUN
    assert cell.judgement is not None and "needs equal stages" in cell.judgement.reason


def test_rule_2_not_verifiable(bench: Bench) -> None:
    why = "the test labels are not public"
    made = bench.table(**with_rows({"row": "KD", "method": "kd", "cells": "70.66", "not_verifiable": why}))
    write(bench.store, experiment(made, "KD"), around(70.66, TIGHT))
    cell = bench.cell("KD")
    assert cell.verdict is Verdict.NOT_VERIFIABLE
    assert cell.judgement is not None and cell.judgement.reason == why


@pytest.mark.parametrize("stand_in", [False, True])
def test_rule_2_not_comparable_under_a_reduced_profile(bench: Bench, suite: Suite, stand_in: bool) -> None:
    write(bench.store, experiment(suite, "KD", "smoke", stand_in), [70.66])
    comparison = bench.compare()
    cell = cell_of(comparison, "KD")
    assert cell.verdict is Verdict.NOT_COMPARABLE
    assert cell.judgement is not None and "smoke" in cell.judgement.reason
    assert cell.achieved is not None and not cell.achieved.values
    assert comparison.coverage.smoke_run == 1
    assert comparison.runs[cell.near[0]].profile == "smoke"
    assert comparison.inputs.unknown == 0


IMAGENET = {
    "data": "imagenet",
    "recipe": "B1",
    "student": "resnet18",
    "teacher": {"model": "resnet34", "weights": "theirs.pth", "published": 72.34},
}
SMOKE = {"train": 32, "test": 20, "batch": 16, "image_size": 64}


@pytest.mark.parametrize(
    ("stand_in", "seen", "words"),
    [
        (True, "generated-imagefolder", "on generated images (generated-imagefolder), 32 training images, 20 test"),
        (False, "imagenet", "on 32 training images, 20 test images, images of 64 pixels"),
        (False, "generated-imagefolder", "on generated images (generated-imagefolder), 32"),  # a folder that says so
    ],
)
def test_an_imagenet_run_on_other_images_is_not_comparable_and_says_why(
    bench: Bench, stand_in: bool, seen: str, words: str
) -> None:
    suite = bench.table(setting=SETTING | IMAGENET, profiles={"smoke": SMOKE})
    made = experiment(suite, "KD", "smoke", stand_in)
    assert made.data.name == ("generated-imagefolder" if stand_in else "imagenet")
    write(bench.store, made, [70.66], data={"name": seen})
    comparison = bench.compare()
    cell = cell_of(comparison, "KD")
    assert cell.verdict is Verdict.NOT_COMPARABLE
    assert cell.judgement is not None and f"only smoke runs are recorded: 1, {words}" in cell.judgement.reason
    assert (comparison.coverage.smoke_run, comparison.inputs.unknown) == (1, 0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"name": "generated-imagefolder"}, "trained on generated-imagefolder data instead of imagenet"),
        ({"name": "imagenet", "subset_train": 128_000}, "a subset of 128000 train images"),
    ],
)
def test_an_imagenet_record_of_other_images_is_a_protocol_mismatch(
    bench: Bench, data: dict[str, Any], words: str
) -> None:
    suite = bench.table(setting=SETTING | IMAGENET)
    write(bench.store, experiment(suite, "KD"), around(70.66, TIGHT), data=data)
    cell = bench.cell("KD")
    assert cell.verdict is Verdict.PROTOCOL_MISMATCH
    assert cell.judgement is not None and words in cell.judgement.reason


def test_why_an_experiment_is_not_compared_is_one_sentence(bench: Bench) -> None:
    suite = bench.table(setting=SETTING | IMAGENET, profiles={"smoke": SMOKE})
    assert why_not_comparable(ExperimentSettings.of(experiment(suite, "KD"))) == ""
    assert why_not_comparable(ExperimentSettings.of(experiment(suite, "KD", "smoke", stand_in=True))) == (
        "not comparable with published numbers: profile smoke, generated images (generated-imagefolder-v1), "
        "32 training images, 20 test images, images of 64 pixels"
    )


def test_smoke_runs_beside_real_ones_only_count_as_smoke(bench: Bench, suite: Suite) -> None:
    write(bench.store, experiment(suite, "KD", "smoke"), [3.0])
    write(bench.store, experiment(suite, "KD"), around(70.66, TIGHT))
    comparison = bench.compare()
    assert cell_of(comparison, "KD").verdict is Verdict.REPRODUCED
    assert (comparison.coverage.smoke_run, comparison.coverage.run) == (1, 1)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"recipe": "A1-small"}, "recipe"),
        ({"precision": "bf16"}, "precision bf16 instead of fp32"),
        ({"student_weights": "somewhere.pth"}, "student weights somewhere.pth instead of none"),
        ({"teacher": {"model": "resnet56", "weights": "theirs.pth"}}, "teacher weights theirs.pth"),
    ],
)
def test_rule_2_protocol_mismatch_says_what_differs(
    bench: Bench, suite: Suite, setting: dict[str, Any], words: str
) -> None:
    other = bench.table("other", setting=SETTING | setting)
    write(bench.store, experiment(other, "KD"), around(70.66, TIGHT))
    (bench.suites / "other.yaml").unlink()
    cell = bench.cell("KD")
    assert cell.verdict is Verdict.PROTOCOL_MISMATCH
    assert cell.judgement is not None and words in cell.judgement.reason
    assert cell.judgement.gap == pytest.approx(0.0)
    assert cell.ours == pytest.approx(70.66)


def test_repetitions_of_different_weight_files_are_never_averaged(bench: Bench) -> None:
    """Their records may come from two machines, of which each saw one file."""
    given = {"teacher": {"model": "resnet56", "weights": "theirs.pth", "published": 72.34}}
    suite = bench.table(setting=SETTING | given)
    made = experiment(suite, "KD")
    told = {"teacher": {"weights_sha256": "a" * 64, "top1": 72.34}}
    paths = write(bench.store, made, around(70.66, TIGHT), **told)
    assert bench.cell("KD").verdict is Verdict.REPRODUCED
    edit(paths[1].record, teacher={"weights_sha256": "b" * 64, "top1": 72.34})
    cell = bench.cell("KD")
    assert cell.verdict is Verdict.PROTOCOL_MISMATCH
    assert cell.judgement is not None
    assert (
        "different weights of the teacher: sha256 aaaaaaaaaaaa in 0, 2, 3, 4; bbbbbbbbbbbb in 1"
        in cell.judgement.reason
    )
    edit(paths[1].record, **told, weight_files={"student": {"file": "s.pth", "sha256": "c" * 64}})
    edit(paths[2].record, weight_files={"student": {"file": "s.pth", "sha256": "d" * 64}})
    cell = bench.cell("KD")
    assert cell.judgement is not None and "different weights of the student" in cell.judgement.reason


def test_a_run_that_another_cell_asks_for_is_no_mismatch(bench: Bench, suite: Suite) -> None:
    other = bench.table("other", setting=SETTING | {"recipe": "A1-small"})
    write(bench.store, experiment(other, "KD"), around(70.66, TIGHT))
    by_suite = {cell.suite: cell.verdict for cell in bench.compare().cells if cell.row == "KD"}
    assert by_suite == {"small": Verdict.NOT_RUN, "other": Verdict.REPRODUCED}


def test_generated_images_are_a_protocol_mismatch(bench: Bench, suite: Suite) -> None:
    write(bench.store, experiment(suite, "KD", stand_in=True), around(70.66, TIGHT))
    cell = bench.cell("KD")
    assert cell.verdict is Verdict.PROTOCOL_MISMATCH
    assert cell.judgement is not None and "data generated-v1 instead of cifar100" in cell.judgement.reason


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"effective": {"precision": "tf32"}}, "precision tf32 instead of fp32"),
        ({"data": {"name": "generated"}}, "trained on generated data"),
        ({"data": {"name": "cifar100", "subset_train": 5000}}, "a subset of 5000 train images"),
    ],
)
def test_a_record_that_says_something_else_was_done_is_a_protocol_mismatch(
    bench: Bench, suite: Suite, changes: dict[str, Any], words: str
) -> None:
    made = experiment(suite, "KD")
    write(bench.store, made, around(70.66, TIGHT))
    bench.store.write(Run(made, 3), record_of(made, 3, 70.66, **changes))
    cell = bench.cell("KD")
    assert cell.verdict is Verdict.PROTOCOL_MISMATCH
    assert cell.judgement is not None and f"repetition 3: {words}" in cell.judgement.reason


def test_runs_of_an_earlier_revision_of_the_method_do_not_count(bench: Bench, suite: Suite) -> None:
    for paths in write(bench.store, experiment(suite, "KD"), around(70.66, TIGHT)):
        edit(paths.record, identity="0" * 16)
    cell = bench.cell("KD")
    assert cell.verdict is Verdict.NOT_RUN
    assert cell.judgement is not None and "another revision of the method" in cell.judgement.reason
    assert len(cell.near) == 5


@pytest.mark.parametrize(("accuracy", "passes"), [(72.84, True), (71.84, True), (72.85, False), (71.83, False)])
def test_rule_2_teacher_gate_of_a_teacher_trained_here(
    bench: Bench, suite: Suite, accuracy: float, passes: bool
) -> None:
    facts = {"weights_sha256": "7" * 64, "top1": accuracy}
    write(bench.store, experiment(suite, "KD"), around(70.66, TIGHT), teacher=facts)
    cell = bench.cell("KD")
    assert cell.verdict is (Verdict.REPRODUCED if passes else Verdict.TEACHER_MISMATCH)
    if not passes:
        assert cell.judgement is not None and "72.34 is published" in cell.judgement.reason


@pytest.mark.parametrize(("accuracy", "passes"), [(72.62, True), (72.64, False)])
def test_rule_2_teacher_gate_of_pinned_weights_is_their_own_figure(bench: Bench, accuracy: float, passes: bool) -> None:
    pinned = {"model": "resnet56", "weights": "theirs.pth", "published": 72.53}
    suite = bench.table(setting=SETTING | {"teacher": pinned})
    write(bench.store, experiment(suite, "KD"), around(70.66, TIGHT), teacher={"top1": accuracy})
    assert bench.cell("KD").verdict is (Verdict.REPRODUCED if passes else Verdict.TEACHER_MISMATCH)


def test_rule_2_teacher_gate_takes_the_preparation_of_the_published_figure(bench: Bench) -> None:
    prepared = {"interpolation": "bicubic", "crop": 0.95}
    pinned = {"model": "resnet34", "weights": "theirs.pth", "published": 72.53, "preparation": prepared}
    where = {"data": "imagenet", "student": "resnet18", "recipe": "B1", "teacher": pinned}
    suite = bench.table(setting=SETTING | where)
    measured = {"top1": 72.2, "as_published_top1": 72.5}
    write(bench.store, experiment(suite, "KD"), around(70.66, TIGHT), teacher=measured)
    assert bench.cell("KD").verdict is Verdict.REPRODUCED


def test_the_teacher_gate_leaves_the_student_and_the_teacher_alone(bench: Bench, suite: Suite) -> None:
    write(bench.store, experiment(suite, "Student"), around(69.06, TIGHT), teacher={"top1": 10.0})
    assert bench.cell("Student").verdict is Verdict.REPRODUCED


def test_a_teacher_that_was_not_measured_is_said(bench: Bench, suite: Suite) -> None:
    write(bench.store, experiment(suite, "KD"), around(70.66, TIGHT), teacher=None)
    cell = bench.cell("KD")
    assert cell.verdict is Verdict.REPRODUCED
    assert any("not checked" in note for note in cell.notes)


# Rules 3 to 8


def test_rule_3_unstable(bench: Bench, suite: Suite) -> None:
    made = experiment(suite, "KD")
    write(bench.store, made, around(70.66, TIGHT))
    bench.store.write(Run(made, 4), record_of(made, 4, 0.0, status="diverged", reason="epoch 3", last={}, best={}))
    cell = bench.cell("KD")
    assert cell.verdict is Verdict.UNSTABLE
    assert cell.achieved is not None and (cell.achieved.n, cell.achieved.diverged) == (4, 1)


def test_rule_4_insufficient_seeds_shows_the_gap_as_an_indication(bench: Bench, suite: Suite) -> None:
    write(bench.store, experiment(suite, "KD"), [70.0, 70.1])
    cell = bench.cell("KD")
    assert cell.verdict is Verdict.INSUFFICIENT_SEEDS
    assert cell.judgement is not None and "not a verdict" in cell.judgement.reason
    assert cell.judgement.gap == pytest.approx(-0.61)


@pytest.mark.parametrize(
    ("offset", "spread", "verdict"),
    [
        (0.0, TIGHT, Verdict.REPRODUCED),  # rule 5
        (-1.5, TIGHT, Verdict.BELOW),  # rule 6
        (1.5, TIGHT, Verdict.ABOVE),
        (0.29, TIGHT, Verdict.CONSISTENT),  # rule 7
        (0.0, WIDE, Verdict.INCONCLUSIVE),  # rule 8
    ],
)
def test_rules_5_to_8(bench: Bench, suite: Suite, offset: float, spread: tuple[float, ...], verdict: Verdict) -> None:
    write(bench.store, experiment(suite, "KD"), around(70.66 + offset, spread))
    cell = bench.cell("KD")
    assert cell.verdict is verdict
    assert cell.judgement is not None
    assert cell.judgement.gap == pytest.approx(offset)
    assert cell.judgement.interval is not None
    assert cell.judgement.interval.low < offset < cell.judgement.interval.high
    assert cell.judgement.smallest_gap_seen is not None and cell.judgement.n == 5


def test_the_best_epoch_is_judged_where_the_source_reports_it(bench: Bench) -> None:
    suite = bench.table(setting=SETTING | {"epoch": "best"})
    write(bench.store, experiment(suite, "KD"), around(60.0, TIGHT), best={"top1": 70.66})
    cell = bench.cell("KD")
    assert cell.ours == pytest.approx(70.66)
    assert cell.verdict is Verdict.REPRODUCED


@pytest.mark.parametrize(("best", "verdict"), [(72.5, Verdict.DEPENDS_ON_EPOCH), (70.7, Verdict.REPRODUCED)])
def test_an_unknown_epoch_is_judged_by_both(bench: Bench, best: float, verdict: Verdict) -> None:
    suite = bench.table(setting=SETTING | {"epoch": "unknown"})
    write(bench.store, experiment(suite, "KD"), around(70.66, TIGHT), best={"top1": best})
    cell = bench.cell("KD")
    assert cell.verdict is verdict
    assert cell.judgement is not None and set(cell.judgement.readings) == {"last", "best"}
    assert cell.best is not None and cell.best.mean == pytest.approx(best)


def test_repetitions_beyond_the_declared_number_change_no_verdict(bench: Bench, suite: Suite) -> None:
    write(bench.store, experiment(suite, "KD"), [*around(70.66, TIGHT), 10.0])
    cell = bench.cell("KD")
    assert cell.verdict is Verdict.REPRODUCED
    assert len(cell.runs) == 5 and len(cell.extra) == 1
    assert any("1 repetition beyond the declared 5" in note for note in cell.notes)


def test_a_teacher_declares_one_repetition(bench: Bench, suite: Suite) -> None:
    write(bench.store, experiment(suite, "Teacher"), [72.3, 72.4])
    cell = bench.cell("Teacher")
    assert cell.achieved is not None and cell.achieved.values == (72.3,)
    assert cell.method == "teacher"


def test_one_training_serves_every_cell_that_means_it(bench: Bench, suite: Suite) -> None:
    bench.table("again", repetitions=3)
    write(bench.store, experiment(suite, "KD"), around(70.66, TIGHT))
    found = [cell for cell in bench.compare().cells if cell.row == "KD"]
    assert [(cell.verdict, len(cell.runs)) for cell in found] == [(Verdict.REPRODUCED, 5)] * 2


def test_what_a_source_leaves_open_is_a_note(bench: Bench) -> None:
    bench.table(**with_rows({"row": "KD", "method": "kd", "cells": "70.66", "unstated": "the temperature"}))
    assert "protocol partly unstated: the temperature" in bench.cell("KD").notes


def test_a_cell_without_a_published_number_shows_its_runs_and_has_no_verdict(bench: Bench) -> None:
    suite = bench.table(**with_rows({"row": "KD", "method": "kd"}))
    write(bench.store, experiment(suite, "KD"), around(70.66, TIGHT))
    comparison = bench.compare()
    cell = cell_of(comparison, "KD")
    assert cell.verdict is None and cell.ours == pytest.approx(70.66)
    assert comparison.coverage.encoded == 0 and not comparison.counts


def test_a_metric_without_a_rule_is_said_and_hides_nothing(bench: Bench) -> None:
    suite = bench.table(
        **with_rows({"row": "KD", "method": "kd", "cells": "91.00 70.66"}),
        columns=[{"column": "Top-5", "metric": "top5"}, {"column": "Top-1", "metric": "top1"}],
    )
    write(bench.store, experiment(suite, "KD"), around(70.66, TIGHT))
    assert "no rule for top5 on cifar100" in bench.cell("KD", column="Top-5").problem
    assert bench.cell("KD").verdict is Verdict.REPRODUCED


# Gains and orderings


def fill(bench: Bench, suite: Suite, **means: float) -> None:
    for row, mean in means.items():
        write(bench.store, experiment(suite, row), around(mean, TIGHT))


def test_gains_over_the_student_and_over_mse(bench: Bench, suite: Suite) -> None:
    # The baselines are a point too low, and DiffKD too: the gains hold all the same.
    fill(bench, suite, Student=68.06, MSE=70.0, DiffKD=70.92)
    comparison = bench.compare()
    gains = {(gain.row, gain.over): gain for gain in comparison.tables[0].gains}
    assert set(gains) == {
        ("KD", "student"),
        ("KD", "MSE"),
        ("MSE", "student"),
        ("DiffKD", "student"),
        ("DiffKD", "MSE"),
    }
    assert cell_of(comparison, "DiffKD").verdict is Verdict.BELOW
    found = gains["DiffKD", "student"]
    assert (found.published, found.achieved) == (2.86, pytest.approx(2.86))
    assert found.judgement.verdict is Verdict.REPRODUCED
    assert "paired on 5 repetitions" in found.judgement.reason
    assert gains["DiffKD", "MSE"].published == 0.92
    assert gains["KD", "student"].judgement.verdict is Verdict.NOT_RUN


def test_gains_where_methods_stand_in_columns(bench: Bench) -> None:
    columns = [
        {"column": "Stu.", "method": "none", "standing": "cited"},
        {"column": "DiffKD", "method": "diffkd", "standing": "authors"},
    ]
    bench.table(**with_rows({"row": "R20", "metric": "top1", "cells": "69.06 71.92"}, columns=columns))
    (gain,) = bench.compare().tables[0].gains
    assert (gain.column, gain.over, gain.published) == ("DiffKD", "student", 2.86)


def test_gains_are_over_the_student_in_any_form_of_the_printed_network(bench: Bench) -> None:
    columns = [{"column": "Stu.", "method": "none"}, {"column": "KD", "method": "kd"}]
    for student, other, compared in (
        ("mobilenetv1", "mobilenetv1_mdistiller", True),  # started otherwise, as the number's source does
        ("mobilenetv1", "resnet18", False),
    ):
        row = {"row": "M", "metric": "top1", "cells": "70.13 70.68", "by_column": {"KD": {"student": other}}}
        where = SETTING | {"data": "imagenet", "teacher": "resnet34", "student": student, "recipe": "B1"}
        bench.table(**with_rows(row, columns=columns, setting=where))
        assert [gain.over for gain in bench.compare().tables[0].gains] == ["student"] * compared


def test_a_gain_over_a_blocked_row_is_blocked(bench: Bench, suite: Suite) -> None:
    fill(bench, suite, DiffKD=71.92)
    write(bench.store, experiment(suite, "MSE"), around(71.0, TIGHT), teacher={"top1": 60.0})
    gains = {(gain.row, gain.over): gain.judgement for gain in bench.compare().tables[0].gains}
    assert gains["DiffKD", "MSE"].verdict is Verdict.TEACHER_MISMATCH
    assert gains["DiffKD", "MSE"].reason.startswith("MSE: ")


def test_orderings_are_those_of_own_rows_adjusted_by_holm(bench: Bench, suite: Suite) -> None:
    fill(bench, suite, Student=69.06, KD=72.5, DiffKD=71.92)
    table = bench.compare().tables[0]
    report = table.orderings
    assert report is not None
    found = {judgement.name: judgement for judgement in report.judgements}
    assert set(found) == {"DiffKD above Student, Top-1", "DiffKD above KD, Top-1"}
    assert found["DiffKD above Student, Top-1"].order is OrderVerdict.HOLDS
    assert found["DiffKD above KD, Top-1"].order is OrderVerdict.REVERSED
    adjusted = [(judgement.p_value, judgement.adjusted) for judgement in report.judgements]
    assert any(p is not None and a is not None and a > p for p, a in adjusted)
    assert report.flags.expected == pytest.approx(2 * 0.05)
    assert table.left_out == 3  # MSE, which has no runs, against the three others


def test_a_study_without_published_numbers_tests_the_orderings_that_it_declared(bench: Bench) -> None:
    plain = [{key: value for key, value in row.items() if key != "cells"} for row in TABLE["rows"][1:]]
    study = bench.table(
        "study",
        paper="none",
        profile="mini",
        rows=plain,
        profiles={"mini": {"epochs": 5, "repetitions": 5}},
        expected=["DiffKD > KD", "KD > Student", "DiffKD > MSE"],
    )
    fill(bench, study, Student=30.0, KD=33.5, DiffKD=32.0)
    comparison = bench.compare(only=["study"])
    table = comparison.tables[0]
    assert table.orderings is not None and table.expected
    found = {judgement.name: judgement for judgement in table.orderings.judgements}
    assert found["KD above Student, Top-1"].order is OrderVerdict.HOLDS
    assert found["DiffKD above KD, Top-1"].order is OrderVerdict.REVERSED
    assert found["DiffKD above KD, Top-1"].difference == pytest.approx(-1.5)
    assert table.left_out == 1  # MSE has no runs
    assert table.gains == () and all(cell.verdict is None for cell in table.cells)


# References


def test_reruns_are_the_reference_where_asked_for(bench: Bench) -> None:
    suite = bench.table()
    bench.readings(RERUN)
    bench.table("without")
    write(bench.store, experiment(suite, "KD"), around(70.66, TIGHT))
    comparison = bench.compare("reruns")
    assert [table.suite for table in comparison.tables] == ["small"]
    cell = cell_of(comparison, "KD")
    assert cell.verdict is Verdict.BELOW
    assert (cell.references[0].kind, cell.references[0].source) == ("rerun", "A text")
    assert cell_of(comparison, "DiffKD").verdict is None
    assert sum(comparison.counts.values()) == 1


def test_all_gives_each_reference_its_verdict(bench: Bench) -> None:
    suite = bench.table()
    bench.readings(RERUN)
    write(bench.store, experiment(suite, "KD"), around(70.66, TIGHT))
    comparison = bench.compare("all")
    verdicts = [reference.judgement.verdict for reference in cell_of(comparison, "KD").references]
    assert verdicts == [Verdict.REPRODUCED, Verdict.BELOW]
    assert comparison.counts[Verdict.BELOW] == 1
    assert len(comparison.hit([Verdict.BELOW])) == 1


# Records from several machines


def test_machines_are_joined(bench: Bench, suite: Suite) -> None:
    made, there = experiment(suite, "KD"), other_machine(bench.store, "there")
    write(bench.store, made, around(70.66, TIGHT)[:2])
    for repetition in (2, 3, 4):
        there.write(Run(made, repetition), record_of(made, repetition, 70.66 + TIGHT[repetition]))
    comparison = bench.compare("paper", bench.store.results, there.results)
    assert cell_of(comparison, "KD").verdict is Verdict.REPRODUCED
    assert comparison.inputs.records == 5 and len(comparison.inputs.folders) == 2


def test_a_folder_given_twice_is_read_once(bench: Bench, suite: Suite) -> None:
    write(bench.store, experiment(suite, "KD"), [70.66])
    found = bench.compare("paper", bench.store.results, bench.store.results / ".." / "results").inputs
    assert (found.records, found.duplicates) == (1, 0)


def test_copies_are_counted_once(bench: Bench, suite: Suite) -> None:
    made, there = experiment(suite, "KD"), other_machine(bench.store, "there")
    write(bench.store, made, around(70.66, TIGHT))
    write(there, made, around(70.66, TIGHT), finished="2026-02-01T00:00:00+00:00", seconds=1.0)
    comparison = bench.compare("paper", bench.store.results, there.results)
    cell = cell_of(comparison, "KD")
    assert cell.achieved is not None and cell.achieved.n == 5
    assert (comparison.inputs.duplicates, comparison.inputs.conflicts) == (5, 0)
    assert comparison.runs[cell.runs[0]].copies == 1


@pytest.mark.parametrize(
    ("here", "there", "kept"),
    [
        ({"finished": "2026-01-02"}, {"finished": "2026-01-01"}, "there"),
        ({"finished": "2026-01-01"}, {"finished": "2026-01-02"}, "here"),
        ({"finished": "2026-01-01", "code": {"dirty": True}}, {"finished": "2026-01-02"}, "there"),
        ({"finished": "2026-01-01", "code": {}}, {"finished": "2026-01-02"}, "there"),
    ],
)
def test_of_conflicting_records_the_clean_then_the_earlier_one_counts(
    bench: Bench, suite: Suite, here: dict[str, Any], there: dict[str, Any], kept: str
) -> None:
    made, other = experiment(suite, "KD"), other_machine(bench.store, "there")
    write(bench.store, made, [70.0], **here)
    write(other, made, [71.0], **there)
    for folders in ((bench.store.results, other.results), (other.results, bench.store.results)):
        comparison = bench.compare("paper", *folders)
        cell = cell_of(comparison, "KD")
        assert cell.achieved is not None and cell.achieved.values == ((70.0,) if kept == "here" else (71.0,))
        (aside,) = cell.set_aside
        assert comparison.runs[aside].last["top1"] == (71.0 if kept == "here" else 70.0)
        assert comparison.runs[aside].set_aside
        assert any("conflicting records: repetition 0" in note for note in cell.notes)
        (said,) = problems(comparison, ProblemKind.CONFLICT)
        assert "top1 70" in said and "top1 71" in said


def test_code_changed_is_a_note(bench: Bench, suite: Suite) -> None:
    made = experiment(suite, "KD")
    write(bench.store, made, around(70.66, TIGHT))
    assert not any("code changed" in note for note in bench.cell("KD").notes)
    code = {"commit": "d" * 40, "dirty": True, "source_sha256": "1" * 16}
    bench.store.write(Run(made, 1), record_of(made, 1, 70.6, code=code))
    notes = bench.cell("KD").notes
    assert "code changed: the runs are of 2 sources that no bridge joins, under one revision of the method" in notes
    assert (
        "code changed: 1 of its 5 runs are of another source than this program's, and no bridge joins the two" in notes
    )
    assert "1 of its 5 runs are of a source that was not committed" in notes


def test_an_older_schema_is_read_and_counted(bench: Bench, suite: Suite) -> None:
    for paths in write(bench.store, experiment(suite, "KD"), around(70.66, TIGHT)):
        edit(paths.record, schema_version=0)
    comparison = bench.compare()
    assert comparison.inputs.older_schema == 5
    assert cell_of(comparison, "KD").verdict is Verdict.REPRODUCED


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_text(path.read_text()[:200]), "cut off"),
        (lambda path: path.write_text(""), "cut off"),
        (lambda path: edit(path, last={"top1": float("nan")}), "not a finite number"),
        (lambda path: edit(path, schema_version=99), "newer than this program"),
    ],
)
def test_a_record_that_cannot_be_used_is_said_and_the_rest_judged(
    bench: Bench, suite: Suite, spoil: Any, words: str
) -> None:
    paths = write(bench.store, experiment(suite, "KD"), around(70.66, TIGHT))
    spoil(paths[2].record)
    comparison = bench.compare()
    cell = cell_of(comparison, "KD")
    assert comparison.inputs.unreadable == 1 and comparison.inputs.records == 4
    (said,) = problems(comparison, ProblemKind.UNREADABLE)
    assert words in said and "r2.json" in said
    assert cell.achieved is not None and cell.achieved.repetitions == (0, 1, 3, 4)
    assert any(note.startswith("the record of repetition 2 cannot be read") for note in cell.notes)
    assert cell.judgement is not None and "4 of 5 declared repetitions" in cell.judgement.reason


@pytest.mark.parametrize(
    ("metrics", "words"), [({"top1": 173.0}, "top1 is 173, not a percentage"), ({"top5": 91.0}, "no top1")]
)
def test_a_metric_that_cannot_be_is_left_out_and_said(
    bench: Bench, suite: Suite, metrics: dict[str, float], words: str
) -> None:
    made = experiment(suite, "KD")
    write(bench.store, made, around(70.66, TIGHT))
    bench.store.write(Run(made, 1), record_of(made, 1, 0.0, last=metrics))
    comparison = bench.compare()
    cell = cell_of(comparison, "KD")
    assert cell.achieved is not None and cell.achieved.n == 4
    assert any(words in said for said in problems(comparison, ProblemKind.METRIC))
    assert any(words in note for note in cell.notes)


def test_records_of_unknown_experiments_are_listed_once_each(bench: Bench, suite: Suite) -> None:
    other = bench.table("other", setting=SETTING | {"student": "resnet14"})
    write(bench.store, experiment(other, "KD"), [60.0, 61.0])
    (bench.suites / "other.yaml").unlink()
    comparison = bench.compare()
    assert comparison.inputs.unknown == 2
    (said,) = problems(comparison, ProblemKind.UNKNOWN)
    assert "cifar100/resnet56-resnet14/kd" in said and "2 runs" in said


def test_a_teacher_of_no_row_is_not_unknown(bench: Bench) -> None:
    suite = bench.table(**with_rows({"row": "KD", "method": "kd", "cells": "70.66"}))
    made = experiment(suite, "KD")
    write(bench.store, made, [70.66])
    write(bench.store, made.teacher, [72.34])  # type: ignore[arg-type]
    found = bench.compare().inputs
    assert (found.teachers, found.unknown, found.used) == (1, 0, 1)


@pytest.mark.parametrize("make", [False, True])
def test_no_records_at_all(bench: Bench, suite: Suite, make: bool) -> None:
    if make:
        bench.store.results.mkdir()
    comparison = bench.compare()
    said = problems(comparison, ProblemKind.FOLDER)
    assert any("python -m benchmark run" in line for line in said)
    assert any("no such folder" in line for line in said) is not make
    assert set(comparison.counts) == {Verdict.NOT_RUN}
    assert comparison.coverage.encoded == 5 and comparison.coverage.run == 0


# Manifests and claims


def test_a_broken_manifest_spoils_none_of_the_others(bench: Bench, suite: Suite) -> None:
    row = {"row": "KD", "method": "kd", "cells": "70.66", "by_column": {"Top1": {}}}
    (bench.suites / "broken.yaml").write_text(yaml.safe_dump(TABLE | {"suite": "broken", "rows": [row]}))
    write(bench.store, experiment(suite, "KD"), around(70.66, TIGHT))
    comparison = bench.compare()
    (said,) = problems(comparison, ProblemKind.MANIFEST)
    assert re.search(r"broken.yaml:\d+: no column 'Top1'; did you mean 'Top-1'", said)
    assert cell_of(comparison, "KD").verdict is Verdict.REPRODUCED


def test_a_copy_of_a_suite_that_is_not_there_is_said(bench: Bench) -> None:
    bench.table(repeats="table99")
    (said,) = problems(bench.compare(), ProblemKind.MANIFEST)
    assert "'table99'" in said


def test_a_copy_is_not_counted_twice(bench: Bench, suite: Suite) -> None:
    bench.table("copied", repeats="small")
    comparison = bench.compare()
    assert len(list(comparison.cells)) == 10
    assert comparison.coverage.encoded == 5 and comparison.counts == {Verdict.NOT_RUN: 5}
    assert any("a copy of small" in note for note in comparison.notes)
    assert bench.compare(only=["copied"]).coverage.encoded == 5


def test_a_claim_about_a_cell_that_does_not_exist_spoils_none_of_the_others(bench: Bench, suite: Suite) -> None:
    lost = CLAIMS["claims"][0] | {"id": "lost", "check": 'cell("9", "FitNet", "Top-1") > 1'}
    bench.claims.write_text(yaml.safe_dump({"claims": [*CLAIMS["claims"], lost]}))
    comparison = bench.compare()
    (said,) = problems(comparison, ProblemKind.MANIFEST)
    assert "FitNet" in said
    answers = {claim.id: claim.published for claim in comparison.claims}
    assert answers["above-kd"].outcome == "holds"
    assert answers["lost"].outcome == "cannot be checked" and "FitNet" in answers["lost"].sentence


def test_claims_that_cannot_be_read_leave_the_tables(bench: Bench, suite: Suite) -> None:
    bench.claims.write_text("claims: 3")
    comparison = bench.compare()
    assert problems(comparison, ProblemKind.MANIFEST) and comparison.claims == ()
    assert len(list(comparison.cells)) == 5


def test_claims_are_checked_by_the_published_numbers_and_by_ours(bench: Bench, suite: Suite) -> None:
    (claim,) = bench.compare().claims
    assert claim.published.outcome == "holds" and claim.achieved is None
    fill(bench, suite, KD=72.5, DiffKD=71.92)
    (claim,) = bench.compare().claims
    assert claim.published.outcome == "holds"
    assert claim.achieved is not None and claim.achieved.outcome == "does not follow"
    assert len(claim.cells) == 2


def test_numbers_that_are_not_judged_answer_no_claim(bench: Bench, suite: Suite) -> None:
    fill(bench, suite, KD=72.5)
    write(bench.store, experiment(suite, "DiffKD"), around(71.92, TIGHT), teacher={"top1": 60.0})
    assert bench.compare().claims[0].achieved is None


def test_an_unknown_suite_names_the_nearest(bench: Bench, suite: Suite) -> None:
    with pytest.raises(UsageError, match="no suite 'smal'") as caught:
        bench.compare(only=["smal"])
    assert "small" in caught.value.fix


def test_only_shows_what_is_asked_for_and_knows_the_rest(bench: Bench, suite: Suite) -> None:
    other = bench.table("other", setting=SETTING | {"student": "resnet14"})
    write(bench.store, experiment(other, "KD"), [60.0])
    comparison = bench.compare(only=["small"])
    assert [table.suite for table in comparison.tables] == ["small"]
    assert comparison.inputs.unknown == 0


# The whole


def test_coverage_counts_each_stage(bench: Bench, suite: Suite) -> None:
    write(bench.store, experiment(suite, "KD"), around(70.66, TIGHT))
    write(bench.store, experiment(suite, "MSE"), around(70.0, USUAL))
    write(bench.store, experiment(suite, "DiffKD"), [71.92])
    write(bench.store, experiment(suite, "Student", "smoke"), [5.0])
    found = bench.compare().coverage
    counts = (found.encoded, found.runnable, found.smoke_run, found.run, found.judged, found.reproduced)
    assert counts == (5, 5, 1, 3, 2, 1)


def test_false_flags_to_expect_are_said(bench: Bench, suite: Suite) -> None:
    fill(bench, suite, KD=70.66, MSE=71.0)
    comparison = bench.compare()
    assert comparison.tables[0].flags.expected == pytest.approx(0.1)
    assert any("chance alone would put 0.1" in note for note in comparison.notes)


def test_the_order_of_folders_and_files_changes_nothing(bench: Bench, suite: Suite) -> None:
    there = other_machine(bench.store, "there")
    write(bench.store, experiment(suite, "KD"), around(70.66, TIGHT))
    write(there, experiment(suite, "DiffKD"), around(71.92, TIGHT))
    first = bench.compare("paper", bench.store.results, there.results)
    second = bench.compare("paper", there.results, bench.store.results)
    assert plain(first.tables) == plain(second.tables)
    assert first.runs == second.runs


def test_everything_is_plain_json(bench: Bench, suite: Suite) -> None:
    made = experiment(suite, "KD")
    write(bench.store, made, around(70.66, TIGHT))
    broken = record_of(made, 4, 0.0, status="diverged", last={"top1": float("nan")}, tracked={"loss": float("inf")})
    bench.store.write(Run(made, 4), broken)
    found = json.loads(json.dumps(bench.compare().to_json(), allow_nan=False))
    assert found["format"] == 2 and found["counts"]["unstable"] == 1
    cell = next(cell for row in found["tables"][0]["rows"] for cell in row["cells"] if cell["row"] == "KD")
    assert cell["references"][0]["judgement"]["verdict"] == "unstable"
    assert found["runs"][cell["runs"][0]]["last"]["top1"] == 70.6


def test_provenance_counts_runs(bench: Bench, suite: Suite) -> None:
    write(bench.store, experiment(suite, "KD"), around(70.66, TIGHT))
    found = bench.compare().provenance
    assert found.commits == {"c" * 40: 5} and found.devices == {"cpu": 5}
    assert found.packages == {"torch 2.14.1": 5} and found.seconds == 300.0


def test_curves_beside_a_record_are_named(bench: Bench, suite: Suite) -> None:
    made = experiment(suite, "KD")
    bench.store.write(Run(made, 0), record_of(made, 0, 70.66), "epoch,test.top1\n1,70.66\n")
    comparison = bench.compare()
    (run,) = comparison.runs.values()
    assert run.curves is not None and Path(run.curves).read_text().startswith("epoch")


def test_a_cell_names_its_experiment(bench: Bench, suite: Suite) -> None:
    cell = bench.cell("KD")
    assert cell.experiment == experiment(suite, "KD").identity
    assert cell.label == "cifar100/resnet56-resnet20/kd"
    assert replace(find(suite, "KD")).id == cell.id
