"""Bridges over code changes, as the comparison uses them: from one source to the next, on their own ground alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from written_records import TIGHT, Bench, around, bridge_between, experiment, problems, record_of, write

from benchmark.judge.bridges import Bridge, read_bridges, write_bridges
from benchmark.machine.provenance import source_hash
from benchmark.plan.experiment import Run
from benchmark.records.evidence import ProblemKind

OLD, OLDER, HERE = "1" * 16, "2" * 16, source_hash()
CHANGED = "another source than this program's, and no bridge joins the two"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """The records of KD's and DiffKD's five runs under an old source."""
    made = Bench(tmp_path)
    suite = made.table()
    for row in ("KD", "DiffKD"):
        write(made.store, experiment(suite, row), around(71, TIGHT), code=code(OLD))
    return made


def code(source: str) -> dict[str, Any]:
    return {"commit": "c" * 40, "dirty": False, "source_sha256": source}


def changed(bench: Bench, bridges: Sequence[Bridge], row: str = "KD") -> list[str]:
    write_bridges(bridges, bench.bridges)
    return [note for note in bench.cell(row).notes if "code changed" in note]


def test_without_a_bridge_the_code_is_said_to_have_changed(bench: Bench) -> None:
    assert changed(bench, ()) == [f"code changed: its runs are of {CHANGED}"]


@pytest.mark.parametrize(
    "bridges",
    [
        [bridge_between(OLD, HERE)],
        [bridge_between(HERE, OLD)],
        [bridge_between(OLD, OLDER), bridge_between(OLDER, HERE)],
        [bridge_between("3" * 16, HERE), bridge_between(OLDER, OLD), bridge_between(OLDER, "3" * 16)],
        [bridge_between(OLD, HERE, machine="another processor", methods={"kd": 1}, differing={"diffkd": 1})],
    ],
    ids=("one", "backwards", "chain", "chain in any order", "another method differs"),
)
def test_a_chain_of_bridges_covers_a_record(bench: Bench, bridges: list[Bridge]) -> None:
    assert changed(bench, bridges) == []
    assert changed(bench, bridges, "DiffKD") == [f"code changed: its runs are of {CHANGED}"]


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "detection"},
        {"networks": "cifar/wrn"},
        {"computed": "cuda, eager, fp32"},
        {"computed": "cpu, compiled, fp32"},
        {"methods": {"diffkd": 1}},
        {"before": "4" * 16},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_bridge_on_other_ground_covers_nothing(bench: Bench, changes: dict[str, Any]) -> None:
    assert changed(bench, [bridge_between(**{"before": OLD, "after": HERE} | changes)])


def test_a_chain_must_not_change_its_ground(bench: Bench) -> None:
    assert changed(bench, [bridge_between(OLD, OLDER), bridge_between(OLDER, HERE, methods={"diffkd": 1})])


def test_runs_of_several_sources_are_counted_by_the_bits_that_they_give(bench: Bench) -> None:
    made = experiment(bench.table(), "KD")
    for repetition, source in enumerate((OLDER, HERE)):
        bench.store.write(Run(made, repetition), record_of(made, repetition, 71, code=code(source)))
    (several, another) = changed(bench, [bridge_between(OLD, OLDER)])
    assert "the runs are of 2 sources that no bridge joins" in several
    assert another == f"code changed: 4 of its 5 runs are of {CHANGED}"
    assert changed(bench, [bridge_between(OLD, OLDER), bridge_between(OLD, HERE)]) == []


def test_runs_of_one_source_on_two_devices_are_of_one_source(bench: Bench) -> None:
    made = experiment(bench.table(), "KD")
    for repetition, device in enumerate(("cpu", "cpu", "cuda", "cuda", "cuda")):
        changes = {"code": code(HERE), "effective": {"device": device, "precision": "fp32"}}
        bench.store.write(Run(made, repetition), record_of(made, repetition, 71, **changes))
    assert changed(bench, [bridge_between(OLD, HERE)]) == []
    bench.store.write(Run(made, 0), record_of(made, 0, 71, code=code(OLD)))
    assert changed(bench, [bridge_between(OLD, HERE)]) == []
    bench.store.write(Run(made, 4), record_of(made, 4, 71, **changes | {"code": code(OLD)}))
    (several, _) = changed(bench, [bridge_between(OLD, HERE)])
    assert "the runs are of 2 sources that no bridge joins" in several


def test_a_broken_file_of_bridges_is_said_and_stops_nothing(bench: Bench) -> None:
    write_bridges([bridge_between(OLD, HERE)], bench.bridges)
    for content, words in (("{", "EOF"), (bench.bridges.read_text().replace('"task"', '"tusk"'), "0.task")):
        bench.bridges.write_text(content)
        (said,) = problems(bench.compare(), ProblemKind.BRIDGES)
        assert str(bench.bridges) in said and words in said
        assert any("code changed" in note for note in bench.cell("KD").notes)


def test_a_file_of_bridges_has_a_line_for_each_and_keeps_their_order(tmp_path: Path) -> None:
    first, second = bridge_between(OLDER, OLD), bridge_between(OLD, HERE, finished="2026-02-01T00:00:00+00:00")
    doubtful = bridge_between(HERE, "5" * 16, finished="2026-03-01T00:00:00+00:00", differing={"diffkd": 1})
    path = tmp_path / "bridges.json"
    write_bridges([doubtful, first, second], path)
    assert [HERE in line for line in path.read_text().splitlines()] == [False, False, True, True, False]
    assert read_bridges(path).entries == (first, second, doubtful)
    assert read_bridges(path).last == second


def test_the_next_comparison_does_not_start_where_another_ground_differed(tmp_path: Path) -> None:
    path = tmp_path / "bridges.json"
    whole = bridge_between(OLDER, OLD)
    broken = bridge_between(OLD, HERE, task="detection", methods={}, differing={"kd": 1})
    write_bridges([whole, broken, bridge_between(OLD, HERE)], path)
    assert read_bridges(path).last == whole
