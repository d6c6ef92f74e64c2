"""Detectors' taps against mmdet's own forward passes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("mmdet", reason="needs pip install '.[dense]'")

from benchmark.cli.parser import main
from benchmark.machine.streams import initialising
from benchmark.models.mmdet import configuration, needed, teach
from benchmark.models.registry import model
from benchmark.models.taps import Network

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def network(name: str) -> Network:
    """In eval mode, with every role bound that a dense pass shows."""
    with initialising("init", 0), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = model(name).build(5)
    adapter = model(name).adapter(plain)
    roles = [role for role in adapter.taps if not role.startswith("roi.")]
    return Network(plain.eval(), adapter, roles)


@pytest.mark.parametrize("name", ["retinanet_r50_fpn", "fcos_r50", "reppoints_r50"])
def test_one_stage_roles_are_what_mmdet_computes(name: str) -> None:
    taught = network(name)
    plain: Any = taught.network
    torch.nn.init.ones_(plain.backbone.layer2[-1].bn3.weight)  # fresh blocks add nothing to what passes by them
    with torch.no_grad():
        seen = teach(taught, IMAGES, {})
        stages = plain.backbone(IMAGES)
        levels = plain.neck(stages)
        outputs = plain.bbox_head(levels)
    for n, level in enumerate(levels):
        torch.testing.assert_close(seen[f"fpn.{n}"], level)
        torch.testing.assert_close(seen[f"cls_scores.{n}"], outputs[0][n])
        if name == "retinanet_r50_fpn":
            torch.testing.assert_close(seen[f"bbox_preds.{n}"], outputs[1][n])
        if name == "fcos_r50":
            torch.testing.assert_close(seen[f"bbox_preds.{n}"].exp(), outputs[1][n])
        if name == "reppoints_r50":
            assert seen[f"bbox_preds.{n}"].shape == (2, 18, *level.shape[2:])
            assert seen[f"bbox_preds_init.{n}"].shape == (2, 18, *level.shape[2:])
    torch.testing.assert_close(seen["stage4"], stages[-1])
    torch.testing.assert_close(seen["stage2.preact"].relu(), seen["stage2"])
    assert (seen["stage2.preact"] < 0).any()
    assert taught.norm_of("stage2.preact") is plain.backbone.layer2[-1].bn3


def test_a_second_stage_sees_the_proposals_it_is_given() -> None:
    taught = network("faster_rcnn_r50_fpn")
    plain: Any = taught.network
    proposals = torch.tensor([[0, 4.0, 4, 40, 50], [1, 0, 0, 63, 63], [1, 10, 20, 30, 35]])
    roles = needed(("fpn.0", "roi.cls_scores", "roi.bbox_preds"))
    assert "roi.proposals" in roles and "roi.proposals" not in needed(("fpn.0",))
    taught.bind(roles)
    with torch.no_grad():
        seen = teach(taught, IMAGES, {"roi.proposals": proposals})
        pooled = plain.roi_head.bbox_roi_extractor(plain.extract_feat(IMAGES)[:4], proposals)
        scores, boxes = plain.roi_head.bbox_head(pooled)
    torch.testing.assert_close(seen["roi.proposals"], proposals)
    torch.testing.assert_close(seen["roi.cls_scores"], scores)
    torch.testing.assert_close(seen["roi.bbox_preds"], boxes)
    assert scores.shape == (3, 6)


def test_levels_are_all_of_the_neck_and_the_pooled_one_is_the_last() -> None:
    adapter = network("faster_rcnn_r50_fpn").adapter
    assert [role for role in adapter.taps if role.startswith("fpn.")] == [f"fpn.{n}" for n in range(5)]
    assert adapter.taps["cls_scores.0"].module == "rpn_head"


@pytest.mark.parametrize("name", ["retinanet_r50_fpn", "fcos_r50", "reppoints_x101_dcn", "faster_rcnn_r50_fpn"])
def test_a_detector_is_shown_with_its_cost_whoever_asks(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "model", name, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["multiply-adds, 800 x 1280"] > 1e11
    assert any(key.endswith("1000 proposals") for key in shown) == (name == "faster_rcnn_r50_fpn")
    assert {"stage4", "fpn.4", "cls_scores.0", "bbox_preds.0"} <= set(shown["taps"])


@pytest.mark.parametrize("suite", ["table4", "table5", "table12", "section_c5"])
def test_a_table_of_detectors_is_planned(suite: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", suite]) == 0
    assert "the longest run after its teacher" in capsys.readouterr().out


def test_a_levels_convolution_is_seen_before_the_group_norm_of_reppoints() -> None:
    taught = network("reppoints_r50")
    plain: Any = taught.network
    with torch.no_grad():
        seen = teach(taught, IMAGES, {})
    assert {f"fpn_conv.{n}" for n in range(5)} <= set(seen)
    for n in range(5):
        norm = plain.neck.fpn_convs[n].gn
        torch.testing.assert_close(norm(seen[f"fpn_conv.{n}"]), seen[f"fpn.{n}"])
        assert not torch.allclose(seen[f"fpn_conv.{n}"], seen[f"fpn.{n}"])
    # Without a norm behind it, it is the level itself; the pooled level of a two-stage detector has no convolution.
    retina = network("retinanet_r50_fpn")
    with torch.no_grad():
        seen = teach(retina, IMAGES, {})
    torch.testing.assert_close(seen["fpn_conv.2"], seen["fpn.2"])
    assert "fpn_conv.4" not in network("faster_rcnn_r50_fpn").adapter.taps


def test_students_of_other_authors_differ_from_mmdets_as_their_configurations_say() -> None:
    agnostic: Any = network("faster_rcnn_r50_fpn_agnostic").network
    assert agnostic.roi_head.bbox_head.fc_reg.out_features == 4
    plain: Any = network("faster_rcnn_r50_fpn").network
    assert plain.roi_head.bbox_head.fc_reg.out_features == 4 * 5
    giou: Any = network("fcos_r50_giou").network.bbox_head
    assert (giou.norm_on_bbox, giou.centerness_on_reg, giou.center_sampling) == (True, False, True)
    assert type(giou.loss_bbox).__name__ == "GIoULoss"
    assert giou.cls_convs[0].conv.bias is not None
    fcos: Any = network("fcos_r50").network.bbox_head
    assert (fcos.norm_on_bbox, fcos.center_sampling, type(fcos.loss_bbox).__name__) == (False, False, "IoULoss")
    assert configuration("fcos_r50_giou").model.test_cfg.nms.iou_threshold == 0.6
