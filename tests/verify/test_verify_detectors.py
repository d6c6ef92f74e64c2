"""COCO's networks in `verify`: counted with the dense packages, reported as not checked without them."""

from __future__ import annotations

import pytest

from benchmark.models import openmmlab
from benchmark.paper.manifest import load, suite_path
from benchmark.verify import detectors
from benchmark.verify.findings import DetectorCost, Findings
from benchmark.verify.text import text

needs_stack = pytest.mark.skipif(bool(openmmlab.missing()), reason="needs the dense packages")


def found() -> Findings:
    findings = Findings()
    detectors.add_detectors(findings, [load(suite_path(name)) for name in ("table4", "table5")], lambda line: None)
    return findings


def test_without_the_packages_the_networks_are_unchecked_and_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmmlab, "missing", lambda: ["mmdet"])
    findings = found()
    assert findings.detectors == []
    assert findings.problems == []
    [unchecked] = findings.unchecked
    assert (unchecked.what, unchecked.why) == ("networks of coco2017", "not checked: pip install '.[dense]'")
    assert "pip install '.[dense]'" in text(findings)


def test_another_count_than_the_known_one_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmmlab, "missing", list)
    monkeypatch.setattr(
        detectors, "detector_cost", lambda name: DetectorCost(name, "1x3x800x1280", 37_968_692, 238_536_000_000, 0)
    )
    problems = found().problems
    assert not any(problem.startswith("retinanet_r50_fpn:") for problem in problems)
    assert "fcos_r50: 37.97 M and 238.5 G are not the known 32.3 M and 200.4 G" in problems


@pytest.mark.slow
@needs_stack
def test_every_detector_of_tables_4_and_5_costs_what_is_known() -> None:
    findings = found()
    assert findings.problems == []
    assert {cost.model for cost in findings.detectors} >= set(detectors.BY_MMDET)
    two_stage = {cost.model for cost in findings.detectors if cost.second_stage}
    faster = {"faster_rcnn_r50_fpn", "faster_rcnn_r50_fpn_agnostic", "faster_rcnn_r101_fpn"}
    assert two_stage == {*faster, "cascade_mask_rcnn_x101_64x4d_fpn", "cascade_mask_rcnn_x101_32x4d_dcn"}
    assert Findings.from_json(findings.as_json()).detectors == findings.detectors
    assert "Detectors, by mmdet's own configurations" in text(findings)
    assert "detectors" not in findings.static()
