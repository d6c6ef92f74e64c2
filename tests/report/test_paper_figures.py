"""Figures 4 and 5 from the views of a comparison: which runs are drawn, and where."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import cell, judgement, run, table

from benchmark.judge.verdicts import Verdict
from benchmark.judge.views import Achieved, CellView, FigureView, Reference, RunView, TableView
from benchmark.records.dataframe import frame_of
from benchmark.report.charts import HEIGHT, WIDTH
from benchmark.report.listing import listed
from benchmark.report.paper_figures import PaperFigure, paper_figures

SINGLE_RUN, KEY = "2.5", 24  # the radius of a single run's dot, the width of a sample in the legend
SVG = "{http://www.w3.org/2000/svg}"
ACCURACY = (FigureView("accuracy", "4", "", ""),)
GAMMA = (FigureView("gamma-histogram", "5a", "", "DiffKD"), FigureView("gamma-curve", "5b", "", "DiffKD"))


def steps(nfe: int, *values: float, published: float | None = None) -> CellView:
    """A cell of DiffKD with so many steps, its runs and the published number."""
    identity = f"{nfe:016d}"
    references = ()
    if published is not None:
        references = (Reference("paper", str(published), published, None, 2, None, "", judgement(Verdict.CONSISTENT)),)
    return cell(
        f"NFE {nfe}",
        method="diffkd",
        nfe=nfe,
        experiment=identity,
        references=references,
        achieved=Achieved("last", values, tuple(range(len(values))), 3, 0, None, None),
        runs=tuple(f"{identity}-r{number}" for number in range(len(values))),
    )


def runs_of(view: TableView, **changes: object) -> dict[str, RunView]:
    """The runs that the cells of a table name."""
    found = {}
    for each in view.cells:
        for number, ident in enumerate(each.runs):
            identity = ident.rpartition("-r")[0]
            found[ident] = replace(run(repetition=number), id=ident, identity=identity, **changes)
    return found


def drawn(view: TableView, **changes: object) -> list[PaperFigure]:
    return list(paper_figures(view, listed(frame_of(runs_of(view, **changes).values()))))


def marks(figure: PaperFigure, kind: str, line: int) -> list[tuple[float, float]]:
    """The middles of a line's marks, without those of the legend."""
    found = [
        e for e in ET.fromstring(figure.sheet.file()).iter(f"{SVG}{kind}") if f"line-{line} " in e.get("class", "")
    ]
    names, half = (("cx", "cy"), 0.0) if kind == "circle" else (("x", "y"), 3.5)
    places = [[float(e.get(name, "nan")) + half for name in names] for e in found if e.get("r") != SINGLE_RUN]
    return [(x, y) for x, y in places if x > KEY]


def test_means_stand_at_their_steps_beside_the_published_values() -> None:
    view = table(
        (steps(5, 73.0, 74.0, published=73.0),), (steps(1, 72.0, published=72.0),), (steps(0, 71.0),), figures=ACCURACY
    )
    (figure,) = drawn(view)
    assert figure.name == "figure4-small"
    ours, published = marks(figure, "circle", 0), marks(figure, "rect", 1)
    assert [x for x, _ in ours] == sorted(x for x, _ in ours) and len(ours) == 3
    ys = [y for _, y in ours]
    assert ys[0] - ys[1] == pytest.approx((ys[0] - ys[2]) / 2.5, abs=0.2), "71, 72 and 73.5"
    assert published[0][1] == pytest.approx(ys[1], abs=0.1) and ys[2] < published[1][1]
    assert all(p[0] < o[0] for p, o in zip(published, ours[1:], strict=True)), "side by side"
    assert "5: 73.50 ± 0.71 (n = 2)" in figure.sheet.file()


def test_runs_of_another_protocol_are_not_drawn() -> None:
    near = replace(steps(1, 72.0), runs=("another-identity-r0",))
    assert drawn(table((near,), figures=ACCURACY)) == []
    (figure,) = drawn(table((steps(3, 70.0),), (near,), figures=ACCURACY))
    assert len(marks(figure, "circle", 0)) == 1


def test_a_table_that_declares_no_figure_has_none() -> None:
    assert drawn(table((steps(1, 72.0),))) == []


def gamma_csv(folder: Path, means: tuple[float, float]) -> str:
    path = folder / f"{means[0]}.csv"
    bins = ",".join(f"train.feature.gamma.bin{index:02d}" for index in range(4))
    lines = [f"epoch,train.feature.gamma,{bins}"]
    lines += [f"1,{means[0]},0,0,0.5,0.5", f"2,{means[1]},,,,"]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_gamma_is_drawn_from_the_curves_of_all_repetitions(tmp_path: Path) -> None:
    view = table((replace(steps(5, 1.0, 2.0), row="DiffKD"),), (steps(3, 1.0),), figures=GAMMA)
    files = iter([gamma_csv(tmp_path, (0.9, 0.7)), gamma_csv(tmp_path, (0.8, 0.6))])
    views = {
        ident: replace(one, curves=next(files)) if one.identity.endswith("5") else one
        for ident, one in runs_of(view).items()
    }
    (figure,) = paper_figures(view, listed(frame_of(views.values())))
    assert figure.name == f"figure5-{5:016d}"
    histogram, course = figure.sheet.charts
    assert histogram.described == "γ of feature: 25 % bins 0.0, 0.0, 50.0, 50.0"
    assert course.described == "γ of feature: 0.850 at first, 0.650 at last"
    said = figure.sheet.file()
    assert "2 repetitions" in said and "1 epoch kept" in said


def test_nothing_leaves_the_drawing() -> None:
    view = table(*((steps(nfe, nfe, 2.0 * nfe, published=nfe + 1.0),) for nfe in range(1, 8)), figures=ACCURACY)
    (figure,) = drawn(view)
    root = ET.fromstring(figure.sheet.file())
    assert float(root.get("width", 0)) == WIDTH
    assert float(root.get("height", 0)) >= HEIGHT
    for x, y in (*marks(figure, "circle", 0), *marks(figure, "rect", 1)):
        assert 50 <= x <= WIDTH and 40 <= y <= HEIGHT
    assert not re.search(r"nan|inf", figure.sheet.file())
