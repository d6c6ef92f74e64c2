"""`report --figure 4|5|6`: from tiny finished runs to SVG files, and what is said where there is nothing to draw."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch
from small import data_of, record_of, run_suite, runs_of, settings_in, write_suite

from benchmark.cli.parser import main
from benchmark.errors import MissingInput, UsageError
from benchmark.models.registry import model
from benchmark.probe.scores import scored
from benchmark.train.classification.training import Training
from benchmark.train.trainer import record_from

SVG = "{http://www.w3.org/2000/svg}"
ROWS = {
    "Student": {"method": "none"},
    "One": {"method": {"diffkd": {"nfe": 1}}},
    "Two": {"method": {"diffkd": {"nfe": 2}}},
}
FIGURES = [
    {"quantity": "accuracy", "number": "4"},
    {"quantity": "gamma-histogram", "number": "5a", "row": "Two"},
    {"quantity": "gamma-curve", "number": "5b", "row": "Two"},
    {"quantity": "class-scores", "number": "6", "row": "Two"},
]


def suite(folder: Path) -> Path:
    return write_suite(folder / "drawn.yaml", ROWS, figures=FIGURES)


def draw(number: str, *more: str) -> int:
    return main(["report", "--figure", number, "--suite", "drawn.yaml", "--out", "out", "--device", "cpu", *more])


def words(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]


def described(svg: str) -> str:
    return ET.fromstring(svg).findtext(f"{SVG}desc") or ""


def test_a_suite_s_runs_become_the_three_figures(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = suite(workplace)
    assert run_suite(path, "--seeds", "1") == 0
    runs = runs_of(path)
    records = {row: record_of(run, workplace) for row, run in runs.items()}
    two = runs["Two"].experiment.identity
    capsys.readouterr()

    assert draw("4") == 0
    assert capsys.readouterr().out == "drawn: written to out/figure4-drawn.svg\n"
    svg = Path("out/figure4-drawn.svg").read_text()
    shown = words(svg)
    expected = {"1": 1, "2": 1, "n = 1": 2, "denoising steps (NFE)": 1, "top-1 accuracy (%)": 1}
    assert {word: shown.count(word) for word in expected} == expected
    assert "smoke" in described(svg)
    for row, label in (("One", "1"), ("Two", "2"), ("Student", "student without distillation")):
        assert f"{label}: {records[row].last['top1']:.2f} (n = 1)" in described(svg)

    assert draw("5") == 0
    svg = Path(f"out/figure5-{two}.svg").read_text()
    assert {"γ of feature", "γ of logits", "γ", "samples (%)", "epoch", "mean γ"} <= set(words(svg))
    shares, means = described(svg).rsplit("feature:", 1)
    for branch in re.findall(r"5 % bins ([\d., ]+)", shares):
        assert sum(map(float, branch.split(", "))) == pytest.approx(100, abs=1)
    assert f"{records['Two'].tracked['feature.gamma']:.3f} at last" in means

    assert draw("6", "--images", "3") == 0
    svg = Path(f"out/figure6-{two}.svg").read_text()
    assert [word for word in words(svg) if word.startswith("test image")][2].startswith("test image 2, of class class ")
    assert {"student", "denoised student", "teacher", "predicted score"} <= set(words(svg))
    assert "<image" not in svg

    path.write_text(path.read_text().replace("profile: smoke", "profile: paper", 1))
    for number in ("4", "5", "6"):
        assert draw(number) == MissingInput.exit_code, "runs of another profile are not the suite's own"
        assert draw(number, "--profile", "smoke") == 0
    path.write_text(path.read_text().replace("profile: paper", "profile: smoke", 1))

    assert main(["report", "--suite", "drawn.yaml"]) == 0
    page = Path("reports/paper/index.html").read_text()
    assert "Figure 4: accuracy by number of denoising steps" in page and "Figure 5: the learned noise weight" in page


def test_scores_are_those_of_the_run_s_networks(workplace: Path) -> None:
    path = suite(workplace)
    runs, settings = runs_of(path), settings_in(workplace)
    for row in ("teacher", "Two"):
        record_from(Training(runs[row], data_of(runs[row].experiment, settings), settings).advancing())
    found = scored(runs["Two"], settings, 2)
    assert [image.position for image in found] == [0, 1]
    assert scored(runs["Two"], settings, 2) == found, "the noise is the run's own"
    inputs = next(iter(data_of(runs["Two"].experiment, settings).evaluation_batches())).inputs[:2]
    for row, name, network in (("Two", "student", "resnet8"), ("teacher", "teacher", "resnet14")):
        plain = model(network).build(100)
        plain.load_state_dict(torch.load(settings.store.paths(runs[row]).student, weights_only=True))
        with torch.no_grad():
            shares = plain.eval()(inputs).double().softmax(dim=1)
        for image, share in zip(found, shares, strict=True):
            top = [int(name.removeprefix("class ")) for name in image.classes]
            assert image.scores[name] == pytest.approx(share[top].tolist(), rel=1e-4)
            if name == "teacher":
                assert top == share.topk(3).indices.tolist()
    settings.store.paths(runs["Two"]).side_networks.unlink()
    with pytest.raises(MissingInput, match="without which nothing is denoised"):
        scored(runs["Two"], settings, 2)


@pytest.mark.parametrize("number", ["4", "5", "6"])
def test_without_runs_the_command_says_what_to_run(
    number: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite(workplace)
    assert draw(number) == MissingInput.exit_code
    said = capsys.readouterr().err
    assert f"no run of drawn.yaml has finished from which figure {number} can be drawn" in said
    assert "fix: python -m benchmark run drawn.yaml" in said
    assert not Path("out").exists()


def test_an_unknown_figure_lists_those_that_can_be_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        draw("3")
    assert stopped.value.code == 2
    assert re.search(r"invalid choice: '3' \(choose from '?2'?, '?4'?, '?5'?, '?6'?, '?7'?\)", capsys.readouterr().err)


def test_a_suite_without_the_figure_names_those_with_it(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_suite(workplace / "drawn.yaml", ROWS)
    assert draw("4") == UsageError.exit_code
    said = capsys.readouterr().err
    assert "drawn.yaml declares no figure 4" in said and "figure4 mini-figures" in said


def test_a_figure_of_a_row_that_does_not_exist_is_a_mistake(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = [{"quantity": "accuracy", "number": "4", "row": "Tow"}]
    path = write_suite(workplace / "drawn.yaml", ROWS, figures=figures)
    assert main(["plan", str(path)]) == UsageError.exit_code
    assert "figure '4': no row 'Tow'; did you mean 'Two'?" in capsys.readouterr().err


def test_the_reduced_study_that_comes_with_the_program_is_drawn_and_labelled(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in ("4", "5"):
        assert main(["report", "--figure", number, "--out", "out"]) == 0
        said = capsys.readouterr()
        assert f"NOTE: figure{number} has no finished run: python -m benchmark run figure{number}" in said.err
    for path in Path("out").glob("*.svg"):
        assert "Profile mini: a reduced study, not a reproduction." in " ".join(words(path.read_text()))
    assert len(list(Path("out").iterdir())) == 2
