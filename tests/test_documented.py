"""Every command line that README, CONTRIBUTING and docs print, with and without the packages of `[dense]`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import documented
import pytest
import torch
from documented import NOT_RUN, TRIES, Done, Try
from small import ROOT, environment

from benchmark.data.generated_folder import Request, generate
from benchmark.models.registry import model

BLOCK = re.compile(r"^```(?:python|yaml)\n# (?P<path>\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
WITH = pytest.param(False, id="dense", marks=pytest.mark.skipif(find_spec("mmdet") is None, reason="no [dense] here"))
WITHOUT = pytest.param(True, id="bare")


def test_every_documented_command_has_its_entry_and_every_entry_its_command() -> None:
    documents = documented.commands()
    known = {**TRIES, **NOT_RUN}
    missing = [f"{name}: {command}" for command, name in documents.items() if command not in known]
    assert not missing, "say in tests/documented.py how these are tried: " + "; ".join(missing)
    assert not known.keys() - documents.keys(), "no document has these any more"


@pytest.fixture
def checkout(workplace: Path) -> Path:
    """Make a working directory like this project's, without data and runs, but with the files that commands name."""
    for name in ("suites", "docs", "tests", "Makefile", "pyproject.toml", "constraints.txt"):
        (workplace / name).symlink_to(ROOT / name)
    for name in ("results", "results-one", "results-two"):
        shutil.copytree(ROOT / "results", workplace / name)
    (workplace / "mine").mkdir()
    for path, text in BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text()):
        (workplace / ("" if path.endswith(".yaml") else "mine") / Path(path).name).write_text(text)
    generate(workplace / "images", Request(classes=3, train=16, test=9, scale=0.2))
    torch.save(model("timm:resnet10t").build(3).state_dict(), workplace / "timm.pt")
    return workplace


Wanted = Callable[[Try], bool]


def tried(checkout: Path, bare: bool, wanted: Wanted) -> list[str]:
    """Run entries of the table in one process of an installation, and return those with an unexpected result."""
    tries = [(one.line.replace("{}", command), one) for command, ways in TRIES.items() for one in ways if wanted(one)]
    paths = [str(ROOT / "tests" / "without_dense")] * bare + [str(ROOT)]
    process = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "documented.py")],
        input="\n".join(line for line, _ in tries),
        env=environment(PYTHONPATH=os.pathsep.join(paths), PYTHONWARNINGS="error"),
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    outcomes = [Done(**found) for found in json.loads(process.stdout)]
    assert len(outcomes) == len(tries)
    return [
        f"{found.line}\nended with {found.code}:\n{found.shown[-1500:]}"
        for found, (_, one) in zip(outcomes, tries, strict=True)
        if found.code != (one.bare if bare and one.bare is not None else one.code)
        or one.says not in found.shown
        or "Traceback" in found.shown
    ]


@pytest.mark.parametrize("bare", [WITH, WITHOUT])
def test_documented_commands_do_what_is_said(bare: bool, checkout: Path) -> None:
    assert not (wrong := tried(checkout, bare, lambda one: not one.slow and not (bare and one.once))), "\n\n".join(
        wrong
    )


@pytest.mark.slow
@pytest.mark.parametrize("bare", [WITH, WITHOUT])
def test_documented_trainings_and_measurements_end(bare: bool, checkout: Path) -> None:
    assert not (wrong := tried(checkout, bare, lambda one: one.slow and not (bare and one.once))), "\n\n".join(wrong)
