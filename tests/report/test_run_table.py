"""The table that `run` prints: the same runs and the same numbers as the comparison's, in the shape of the suite."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from written_records import TIGHT, USUAL, Bench, around, edit, experiment, other_machine, record_of, write

from benchmark.paper.suite import Suite
from benchmark.plan.experiment import Run, Selection
from benchmark.records.evidence import collect
from benchmark.report.table import suite_table

EVERY = Selection(all_rows=True)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def shown(bench: Bench, suite: Suite, row: str) -> str:
    return dict(suite_table(suite, EVERY, collect(bench.store.folders)).rows)[row]


def reported(bench: Bench, row: str) -> str:
    """What the comparison shows, in the words of the table."""
    found = bench.cell(row).achieved
    assert found is not None
    return f"{found.text.replace('±', ' ± ')} ({found.n})"


def test_a_table_is_of_the_suites_shape_and_plain_to_read(bench: Bench) -> None:
    suite = bench.table()
    write(bench.store, experiment(suite, "KD"), [70.5, 70.7, 70.9])
    write(bench.store, experiment(suite, "MSE"), [71.0])
    text = suite_table(suite, EVERY, collect(bench.store.folders), ["a note"]).markdown()
    assert text == (
        "### A small table (small, profile paper)\n"
        "\n"
        "|         | Top-1            |\n"
        "|---------|------------------|\n"
        "| Teacher | -                |\n"
        "| Student | -                |\n"
        "| KD      | 70.70 ± 0.20 (3) |\n"
        "| MSE     | 71.00 (1)        |\n"
        "| DiffKD  | -                |\n"
        "\n"
        "- a note\n"
    )


def test_states_stand_where_there_is_no_number(bench: Bench) -> None:
    suite = bench.table()
    kd, diffkd = experiment(suite, "KD"), experiment(suite, "DiffKD")
    write(bench.store, kd, [70.0], status="skipped", reason="cannot serve this pair")
    write(bench.store, diffkd, [71.0, 71.4])
    bench.store.write(Run(diffkd, 2), record_of(diffkd, 2, 0.0, status="diverged", last={}, best={}))
    assert shown(bench, suite, "KD") == "skipped"
    assert shown(bench, suite, "DiffKD") == "71.20 ± 0.28 (2), diverged"


@pytest.mark.parametrize("epoch", ["last", "best", "unknown"])
def test_the_epoch_is_the_sources_as_in_the_comparison(bench: Bench, epoch: str) -> None:
    suite = bench.table(setting={**bench.table().file.setting.model_dump(exclude_none=True), "epoch": epoch})
    write(bench.store, experiment(suite, "KD"), [70.5, 70.7, 70.9])
    assert shown(bench, suite, "KD") == reported(bench, "KD")
    assert shown(bench, suite, "KD").startswith("70.71" if epoch == "best" else "70.70")


def test_of_records_that_disagree_the_same_one_counts_as_in_the_comparison(bench: Bench) -> None:
    suite = bench.table()
    kd = experiment(suite, "KD")
    (path, *_) = write(bench.store, kd, around(70.66, USUAL))
    edit(path.record, code={"commit": "c" * 40, "dirty": True})
    nested = replace(bench.store, results=bench.store.results / "from-elsewhere")
    bench.store.results.mkdir(exist_ok=True)
    write(nested, kd, [60.0])
    assert shown(bench, suite, "KD") == reported(bench, "KD")
    assert not shown(bench, suite, "KD").startswith("70.66")


def test_what_the_comparison_leaves_out_is_left_out(bench: Bench) -> None:
    suite = bench.table()
    kd, mse, teacher = (experiment(suite, row) for row in ("KD", "MSE", "Teacher"))
    write(bench.store, kd, [*around(70.66, TIGHT), 90.0])  # one more repetition than is declared
    paths = write(bench.store, mse, [71.0, 71.2, 71.4])
    edit(paths[2].record, last={"top1": 7140.0})
    write(bench.store, teacher, [72.0, 80.0])  # a teacher is trained once
    write(other_machine(bench.store, "foreign"), kd, around(20.0, TIGHT))
    assert shown(bench, suite, "KD") == reported(bench, "KD") == "70.66 ± 0.05 (5)"
    assert shown(bench, suite, "MSE") == reported(bench, "MSE") == "71.10 ± 0.14 (2)"
    assert shown(bench, suite, "Teacher") == reported(bench, "Teacher") == "72.00 (1)"
