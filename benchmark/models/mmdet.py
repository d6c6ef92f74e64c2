"""Detectors of mmdet: Faster R-CNN, Cascade Mask R-CNN, RetinaNet, FCOS and RepPoints, by their own configurations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from benchmark.models import openmmlab
from benchmark.models.taps import Adapter, Network, Tap

# Paths below mmdet's `configs`, with whose recipes the published checkpoints were trained, and what differs from them.
MODELS: dict[str, dict[str, Any]] = {
    "faster_rcnn_r50_fpn": {"config": "faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py"},
    "faster_rcnn_r101_fpn": {"config": "faster_rcnn/faster-rcnn_r101_fpn_2x_coco.py"},
    "cascade_mask_rcnn_x101_64x4d_fpn": {"config": "cascade_rcnn/cascade-mask-rcnn_x101-64x4d_fpn_20e_coco.py"},
    # FGD's Cascade teacher
    "cascade_mask_rcnn_x101_32x4d_dcn": {"config": "dcn/cascade-mask-rcnn_x101-32x4d-dconv-c3-c5_fpn_1x_coco.py"},
    "retinanet_r50_fpn": {"config": "retinanet/retinanet_r50_fpn_2x_coco.py"},
    "retinanet_r101_fpn": {"config": "retinanet/retinanet_r101_fpn_2x_coco.py"},
    "retinanet_x101_64x4d_fpn": {"config": "retinanet/retinanet_x101-64x4d_fpn_1x_coco.py"},
    "fcos_r50": {"config": "fcos/fcos_r50-caffe_fpn_gn-head_ms-640-800-2x_coco.py"},
    "fcos_r101": {"config": "fcos/fcos_r101-caffe_fpn_gn-head_ms-640-800-2x_coco.py"},
    # MasKD at b5af34f, mmrazor/configs/distill/maskd/cascade_mask_rcnn_x101-fpn_x50_coco.py: as its teacher regresses
    "faster_rcnn_r50_fpn_agnostic": {
        "config": "faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py",
        "changes": {"roi_head.bbox_head.reg_class_agnostic": True},
    },
    # FGD at c03a6cf, configs/fcos/fcos_center-normbbox-giou_r50_caffe_fpn_gn-head_mstrain_1x_coco.py
    "fcos_r50_giou": {
        "config": "fcos/fcos_r50-caffe_fpn_gn-head_ms-640-800-2x_coco.py",
        "changes": {
            "bbox_head.norm_on_bbox": True,
            "bbox_head.centerness_on_reg": False,
            "bbox_head.dcn_on_last_conv": False,
            "bbox_head.center_sampling": True,
            "bbox_head.conv_bias": True,
            "bbox_head.loss_bbox": {"type": "GIoULoss", "loss_weight": 1.0},
            "test_cfg.nms.iou_threshold": 0.6,
            "data_preprocessor.mean": [103.53, 116.28, 123.675],  # of detectron2's weights
        },
    },
    "reppoints_r50": {"config": "reppoints/reppoints-moment_r50_fpn-gn_head-gn_2x_coco.py"},
    "reppoints_x101_dcn": {"config": "reppoints/reppoints-moment_x101-dconv-c3-c5_fpn-gn_head-gn_2x_coco.py"},
}

FORM_OF = {"faster_rcnn_r50_fpn_agnostic": "faster_rcnn_r50_fpn"}
PROPOSALS = "roi.proposals"  # R,5: image, x1, y1, x2, y2


def configuration(name: str) -> Any:
    """Return mmdet's own configuration of the network with the changes of `MODELS`, an `mmengine.Config`."""
    openmmlab.prepare()
    from mmengine.config import Config

    found = Config.fromfile(openmmlab.configs("mmdet") / MODELS[name]["config"])
    found.merge_from_dict({f"model.{key}": value for key, value in MODELS[name].get("changes", {}).items()})
    return found


def build(name: str, classes: int, config: str, changes: Mapping[str, object] | None = None) -> nn.Module:
    """Build a detector with fresh weights, also in its backbone: the experiment names pre-trained ones."""
    with openmmlab.scope("mmdet"):
        network = uninitialised(name, classes)
        if not next(network.parameters()).is_meta:  # mmdet fills weights in by values, of which there are none there
            network.init_weights()  # type: ignore[operator]
    return network


def uninitialised(name: str, classes: int) -> nn.Module:
    """Build a detector before its weights are filled in; on the meta device it takes no memory."""
    with openmmlab.scope("mmdet"):
        from mmdet.registry import MODELS as REGISTRY

        settings = configuration(name).model
        settings.backbone.init_cfg = None
        _count_classes(settings, classes)
        network: nn.Module = REGISTRY.build(settings)
    return network


def _count_classes(settings: Any, classes: int) -> None:
    if isinstance(settings, dict):
        if "num_classes" in settings:
            settings["num_classes"] = classes
        for value in settings.values():
            _count_classes(value, classes)
    elif isinstance(settings, list):
        for value in settings:
            _count_classes(value, classes)


def adapter(network: nn.Module) -> Adapter:
    """Return the taps: backbone stages, pyramid levels, the dense head's outputs by level, the second stage's outputs.

    `fpn_conv.N` is the last convolution of a level, before the group norm that RepPoints' pyramid has behind it.
    The second stage's outputs are those for its proposals. A dense head's regressions are taken where student and
    teacher mean the same by them: FCOS after its learned scale and before the exponential, RepPoints as offsets, before
    they become points.
    """
    levels: int = network.neck.num_outs  # type: ignore[union-attr, assignment]
    two_stage = hasattr(network, "roi_head")
    head = "rpn_head" if two_stage else "bbox_head"
    taps = {f"fpn.{n}": Tap("neck", item=(n,)) for n in range(levels)}
    convolutions = len(network.get_submodule("neck.fpn_convs"))  # type: ignore[arg-type]
    taps |= {f"fpn_conv.{n}": Tap(f"neck.fpn_convs.{n}.conv", clone=True) for n in range(convolutions)}
    taps |= {f"cls_scores.{n}": Tap(head, item=(0, n)) for n in range(levels)}
    kind = type(network.get_submodule(head)).__name__
    for n in range(levels):
        match kind:
            case "FCOSHead":
                taps[f"bbox_preds.{n}"] = Tap(f"{head}.scales.{n}")
            case "RepPointsHead":
                taps[f"bbox_preds.{n}"] = Tap(f"{head}.reppoints_pts_refine_out", call=n)
                taps[f"bbox_preds_init.{n}"] = Tap(f"{head}.reppoints_pts_init_out", call=n)
            case _:
                taps[f"bbox_preds.{n}"] = Tap(head, item=(1, n))
    return Adapter(_backbone(network) | taps | (_second_stage(network) if two_stage else {}))


def _backbone(network: nn.Module) -> dict[str, Tap]:
    """Return the taps of a ResNet's or ResNeXt's stages, after and before their last ReLU.

    A block has one ReLU module; the last ReLU is its third call.
    """
    taps = {}
    for stage in range(1, 5):
        last = len(network.get_submodule(f"backbone.layer{stage}")) - 1  # type: ignore[arg-type]
        block = f"backbone.layer{stage}.{last}"
        taps[f"stage{stage}"] = Tap(f"backbone.layer{stage}")
        taps[f"stage{stage}.preact"] = Tap(f"{block}.relu", at="input", call=2, clone=True, norm=f"{block}.bn3")
    return taps


def _second_stage(network: nn.Module) -> dict[str, Tap]:
    cascaded = isinstance(network.get_submodule("roi_head.bbox_head"), nn.ModuleList)
    first = ".0" if cascaded else ""
    return {
        PROPOSALS: Tap(f"roi_head.bbox_roi_extractor{first}", at="input", item=(1,)),
        "roi.cls_scores": Tap(f"roi_head.bbox_head{first}", item=(0,)),
        "roi.bbox_preds": Tap(f"roi_head.bbox_head{first}", item=(1,)),
    }


def needed(roles: Iterable[str]) -> tuple[str, ...]:
    """Return the roles that a student must show so that `teach` works.

    A teacher's second stage also needs the student's proposals.
    """
    asked = tuple(roles)
    return (*asked, PROPOSALS) if any(role.startswith("roi.") for role in asked) else asked


def teach(network: Network, inputs: Tensor, student: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a teacher's tensors by role for inputs B,3,H,W; its second stage sees the student's proposals."""
    detector: Any = network.network
    dense = any(role.startswith(("cls_scores", "bbox_preds")) for role in network.roles)
    second = any(role.startswith("roi.") for role in network.roles)

    def run() -> None:
        features = detector.extract_feat(inputs)
        if dense:
            (detector.rpn_head if hasattr(detector, "roi_head") else detector.bbox_head)(features)
        if second:
            head = detector.roi_head
            stage = (0,) if isinstance(head.bbox_head, nn.ModuleList) else ()
            head._bbox_forward(*stage, features, student[PROPOSALS])

    return network.observed(run)[1]
