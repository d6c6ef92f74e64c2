"""The code of a submission is a copy: it runs without the original, and knows its revision."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest
from small import plan_of, write_suite

from benchmark.launch.snapshot import take
from benchmark.machine import provenance

SAY = """
import json
from benchmark.machine import plugins, provenance
from methods.registry import methods
print(json.dumps([str(plugins.ROOT), provenance.revision(), sorted(methods())]))
"""


def said(folder: Path, environment: dict[str, str]) -> tuple[str, dict[str, object], list[str]]:
    """Return what a process finds that runs the snapshot in a folder with other code."""
    (folder / "benchmark").mkdir()
    (folder / "benchmark" / "__init__.py").write_text("raise RuntimeError('the code of the working directory')\n")
    done = subprocess.run(
        [sys.executable, "-c", SAY],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    root, revision, names = json.loads(done.stdout)
    return root, revision, names


def test_a_snapshot_runs_alone_and_names_its_revision(tmp_path: Path) -> None:
    snapshot = take(tmp_path / "code")
    (tmp_path / "elsewhere").mkdir()
    root, revision, names = said(tmp_path / "elsewhere", snapshot.environment())
    assert root == str(snapshot.source)
    assert revision == provenance.revision()
    assert "diffkd" in names


@pytest.mark.parametrize("method", ["diffkd", {"kd": {"temperature": 7}, "mse": {}}])
def test_a_pickled_run_names_no_file_of_this_code(method: object, workplace: Path) -> None:
    suite = write_suite(workplace / "pickled.yaml", {"One": {"method": method}})
    for run in plan_of(suite).runs:
        pickled = cloudpickle.dumps(run)
        assert str(provenance.ROOT).encode() not in pickled
        again = pickle.loads(pickled)
        assert again.experiment.canonical() == run.experiment.canonical()
        assert again.experiment.method.resolved() == run.experiment.method.resolved()


def test_the_same_code_is_copied_once(tmp_path: Path) -> None:
    assert take(tmp_path) == take(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_users_own_method_is_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = take(tmp_path / "code")
    extra = tmp_path / "mine"
    extra.mkdir()
    original = (provenance.ROOT / "methods" / "kd.py").read_text()
    (extra / "mine.py").write_text(original.replace("class KD", "class Mine"))
    monkeypatch.setenv("BENCHMARK_EXTRA", str(extra))
    snapshot = take(tmp_path / "code")
    assert snapshot != plain
    before = provenance.revision()
    (extra / "mine.py").unlink()
    (tmp_path / "elsewhere").mkdir()
    _, revision, names = said(tmp_path / "elsewhere", snapshot.environment())
    assert "mine" in names
    assert revision == before
