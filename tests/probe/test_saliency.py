"""Figures 2 and 7 from a detection run: equation (10), what is looked at, and the command."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from detection_runs import suite
from small import settings_in

from benchmark.cli.parser import main
from benchmark.errors import MissingInput
from benchmark.models import openmmlab
from benchmark.paper.manifest import load
from benchmark.plan.experiment import Run, Selection, make_plan
from benchmark.probe.saliency import LEVEL, branch_of, looked, saliency
from benchmark.train.dense.generators import own_generators
from benchmark.train.dense.mmengine_loop import DenseTraining
from methods.spec import MethodSpec


def test_saliency_is_equation_10() -> None:
    features = torch.randn(2, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    found = saliency(features)
    for image, values in zip(features, found, strict=True):
        means = [sum(float(image[c, y, x]) for c in range(3)) / 3 for y in range(2) for x in range(4)]
        whole = sum(math.exp(mean / 0.5) for mean in means)
        expected = [2 * 4 * math.exp(mean / 0.5) / whole for mean in means]
        torch.testing.assert_close(values.flatten(), torch.tensor(expected))
        assert float(values.mean()) == pytest.approx(1.0)


def test_only_diffkd_of_the_pyramid_denoises() -> None:
    assert branch_of(MethodSpec.parse("fgd").make()) is None
    assert branch_of(MethodSpec.parse({"diffkd": {}, "regressionkd": {}}).make()) is None  # not built


def finished(folder: Path, row: str) -> tuple[Path, Run]:
    """A run that ends before its first step: untrained networks are as good to draw."""
    path = suite(folder, profile={"epochs": 1, "short_side": 96, "train": 2, "test": 1})
    plan = make_plan([load(path)], Selection(absent=frozenset({"coco2017"}), all_rows=True))
    run = next(run for run in plan.runs if plan.cells[run.experiment.identity][0].row == row)
    with openmmlab.scope("mmdet"), own_generators("fp32", torch.device("cpu")):
        training = DenseTraining(run, settings_in(folder))
        training.finish("done")
    return path, run


@pytest.mark.slow
def test_the_command_draws_student_denoised_student_and_teacher(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, run = finished(workplace, "DiffKD")
    places = ["--runs-dir", str(workplace / "runs"), "--results-dir", str(workplace / "results")]
    asked = ["report", "--figure", "2", "--suite", str(path), "--profile", "smoke", "--device", "cpu"]
    assert main([*asked, *places, "--out", str(workplace), "--images", "1"]) == 0
    said = capsys.readouterr()
    assert "NOT COCO" in said.err
    svg = (workplace / f"figure2-{run.experiment.identity}.svg").read_text()
    assert all(f">{head}<" in svg for head in ("image", "student", "denoised student", "teacher"))
    assert "NOT COCO" in svg
    [row], _ = looked(run, settings_in(workplace), 1)
    assert all(values.mean() == pytest.approx(1.0, rel=1e-4) for values in row.maps.values())
    again, _ = looked(run, settings_in(workplace), 1)
    assert (again[0].maps["denoised student"] == row.maps["denoised student"]).all(), "the noise is the run's own"
    settings_in(workplace).store.paths(run).side_networks.unlink()
    with pytest.raises(MissingInput, match="without which nothing is denoised"):
        looked(run, settings_in(workplace), 1)


def test_without_a_finished_run_the_command_says_how_to_get_one(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--runs-dir", str(workplace / "runs"), "--results-dir", str(workplace / "results")]
    assert main(["report", "--figure", "7", "--profile", "smoke", *places]) == MissingInput.exit_code
    assert "python -m benchmark run figure2 --profile smoke" in capsys.readouterr().err
    assert LEVEL == "fpn.0"
