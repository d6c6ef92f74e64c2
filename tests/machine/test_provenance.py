"""The source hash of a record: an edit of any file that a training uses changes it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmark.machine import provenance


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in ("benchmark", "methods"):
        shutil.copytree(provenance.ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return tmp_path


def after(path: Path) -> str:
    """Return the hash with a line added to a file, and restore the file."""
    whole = path.read_bytes()
    path.write_bytes(whole + b"# edited\n")
    found = provenance.source_hash.__wrapped__()
    path.write_bytes(whole)
    return found


def test_the_source_hash_sees_what_trains_and_nothing_else(copied: Path) -> None:
    before = provenance.source_hash.__wrapped__()
    trains = (
        *("methods/kd.py", "methods/diffkd/diffkd.py", "benchmark/train/engine/step.py", "benchmark/models/taps.py"),
        *("benchmark/train/dense/mmengine_loop.py", "benchmark/train/dense/feeding.py"),
        *("benchmark/train/dense/detection.py", "benchmark/plan/experiment.py", "benchmark/paper/recipe.py"),
        *("benchmark/launch/local.py", "benchmark/data/augment.py"),
    )
    for name in trains:
        assert after(copied / name) != before, f"an edit of {name} goes unseen"
    for name in ("benchmark/report/page.py", "benchmark/judge/verdicts.py", "benchmark/cli/run.py"):
        assert after(copied / name) == before, f"an edit of {name} trains nothing"


def test_installed_inside_a_foreign_repository_no_revision_of_it_is_recorded(copied: Path) -> None:
    def git(*words: str) -> None:
        who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
        subprocess.run(["git", "-C", str(copied), *who, *words], check=True, capture_output=True)

    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "-m", "theirs")
    assert provenance._revision.__wrapped__("")["commit"] is None
    git("add", "benchmark/errors.py")
    git("commit", "--quiet", "-m", "a checkout of ours")
    found = provenance._revision.__wrapped__("")
    assert found["commit"] and found["dirty"] is True
