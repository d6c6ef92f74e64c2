"""An experiment made again from a record alone has the identity of the record."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from small import ROOT

from benchmark.errors import UsageError
from benchmark.paper.datasets import STAND_INS
from benchmark.paper.manifest import load_all
from benchmark.plan.experiment import Experiment, Selection, make_plan
from benchmark.records.facts import ExperimentSettings
from benchmark.records.rebuild import experiment_of
from benchmark.records.store import Record, read_record

ABSENT = frozenset(STAND_INS)
SELECTIONS = {
    "as they are": Selection(all_rows=True),
    "smoke": Selection(all_rows=True, profile="smoke"),
    "smoke on generated images": Selection(all_rows=True, profile="smoke", stand_in=True, absent=ABSENT),
}


def record_of(experiment: Experiment) -> Record:
    """A record as a file has it: through JSON."""
    made = Record(
        identity=experiment.identity,
        repetition=0,
        status="done",
        experiment=ExperimentSettings.of(experiment),
        schema_version=2,
    )
    return Record.model_validate_json(made.text())


@pytest.mark.parametrize("kind", SELECTIONS)
def test_every_experiment_of_every_suite_comes_back(kind: str) -> None:
    experiments = make_plan(load_all(), SELECTIONS[kind]).experiments
    assert len(experiments) > 100
    for experiment in experiments.values():
        assert experiment_of(record_of(experiment), Path("results/r0.json")) == experiment


def test_every_committed_record_comes_back() -> None:
    paths = sorted((ROOT / "results").rglob("r*.json"))
    formats: Counter[int] = Counter()
    for path in paths:
        record = read_record(path)
        assert isinstance(record, Record)
        formats[record.schema_version] += 1
        assert experiment_of(record, path).identity == record.identity
    assert formats == {1: 48, 2: 12}


def test_a_setting_that_was_edited_is_refused(tmp_path: Path) -> None:
    path = next((ROOT / "results").rglob("r0.json"))
    content = json.loads(path.read_text())
    content["experiment"]["recipe"]["lr"] = 0.5
    edited = tmp_path / "r0.json"
    edited.write_text(json.dumps(content))
    record = read_record(edited)
    assert isinstance(record, Record)
    with pytest.raises(UsageError, match=f"give the identity [0-9a-f]+, not {record.identity}"):
        experiment_of(record, edited)
