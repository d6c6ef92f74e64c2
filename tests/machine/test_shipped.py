"""Files that come with the program are found from any working directory, and in an installation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from small import ROOT

from benchmark.launch.snapshot import take

TEACHER = "results/mini/cifar100/resnet20/none-bf68241a043d315b/r0.pt"
FIND = """
from benchmark.records.store import Store
from benchmark.train.weights import weights_file
print(weights_file({!r}, Store()).path)
"""


def said(code: str, folder: Path, path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-P", *(["-c", code] if "\n" in code else ["-m", "benchmark", *code.split()])],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(path), "BENCHMARK_EXTRA": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_a_job_finds_the_weights_that_a_suite_names_in_its_copy_of_the_code(empty: Path, tmp_path: Path) -> None:
    source = take(tmp_path / "code").source
    assert said(FIND.format(TEACHER), empty, source).strip() == str(source / TEACHER)


@pytest.mark.slow
def test_an_installation_in_an_empty_folder_reports_what_a_checkout_does(empty: Path, tmp_path: Path) -> None:
    checkout, installed = tmp_path / "checkout", tmp_path / "installed"
    for name in ("benchmark", "methods", "suites", "results", "reports/mini-cifar100"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    build = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    subprocess.run(build, cwd=checkout, check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(installed)

    shown = said("list suites", empty, installed)
    assert shown.count("/installed/benchmark/shipped/suites/") == len(list((ROOT / "suites").glob("*.yaml"))) - 4
    assert f"in {installed / 'benchmark' / 'shipped'}" in said("doctor", empty, installed)
    assert said(FIND.format(TEACHER), empty, installed).strip() == str(installed / "benchmark" / "shipped" / TEACHER)

    assert "0 contradictions" in said("verify sources", empty, installed)
    said("report --compare paper", empty, installed)
    said("report --compare paper", checkout, checkout)
    for name in ("cells.csv", "report.md", "tables/table9.tex"):
        ours, theirs = (folder / "reports" / "paper" / name for folder in (empty, checkout))
        assert _plain(ours, empty, installed) == _plain(theirs, checkout, checkout), name
    assert sorted(path.name for path in empty.iterdir()) == ["reports"]


def _plain(path: Path, *folders: Path) -> str:
    """Return a text without the places from which its records came."""
    text = path.read_text()
    for name in sorted(map(str, folders), key=len, reverse=True):
        text = text.replace(name, "")
    return text.replace("/benchmark/shipped/results", "results")
