"""The stand-in for mmcv's operators against plain re-implementations: values and gradients, operator by operator."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from reference import mmcv_ops as reference
from torch import Tensor

from benchmark.models import mmcv_ops


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("offset", [0, 1])
def test_nms_keeps_what_the_definition_keeps(offset: int) -> None:
    generator = draws(1)
    corners = 30 * torch.rand(60, 2, generator=generator, dtype=torch.float64)
    boxes = torch.cat([corners, corners + 1 + 12 * torch.rand(60, 2, generator=generator, dtype=torch.float64)], dim=1)
    scores = torch.rand(60, generator=generator, dtype=torch.float64)
    expected = reference.nms(boxes.tolist(), scores.tolist(), 0.4, offset)
    assert mmcv_ops.nms(boxes, scores, 0.4, offset).tolist() == expected
    assert 10 < len(expected) < 60


def test_an_offset_decides_between_boxes_that_almost_overlap() -> None:
    boxes = torch.tensor([[0.0, 0.0, 3.0, 3.0], [0.0, 0.0, 3.0, 1.6]])
    scores = torch.tensor([0.9, 0.8])
    assert mmcv_ops.nms(boxes, scores, 0.6, 0).tolist() == [0, 1]
    assert mmcv_ops.nms(boxes, scores, 0.6, 1).tolist() == [0]


ROIS = torch.tensor([[0, 1.0, 2.0, 9.5, 7.0], [1, 0.0, 0.0, 15.0, 15.0], [1, 6.2, 3.1, 6.9, 12.0]], dtype=torch.float64)


@pytest.mark.parametrize(("samples", "aligned"), [(0, True), (2, True), (2, False), (0, False)])
def test_roi_align_and_its_gradient(samples: int, aligned: bool) -> None:
    generator = draws(2)
    maps = torch.randn(2, 3, 8, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    expected = reference.roi_align(maps, ROIS, (2, 3), 0.5, samples, aligned)
    settings: dict[str, Any] = {
        "aligned_height": 2,
        "aligned_width": 3,
        "spatial_scale": 0.5,
        "sampling_ratio": samples,
        "pool_mode": 1,
        "aligned": aligned,
    }
    unused, found = torch.empty(0), torch.zeros(3, 3, 2, 3, dtype=torch.float64)
    mmcv_ops.roi_align_forward(maps.detach(), ROIS, found, unused, unused, **settings)
    torch.testing.assert_close(found, expected.detach())
    weights = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    gradient = torch.zeros_like(maps)
    mmcv_ops.roi_align_backward(weights, ROIS, unused, unused, gradient.detach(), **settings)
    torch.testing.assert_close(gradient, torch.autograd.grad((expected * weights).sum(), maps)[0])


def test_regions_that_are_no_numbers_give_none_and_harm_nothing() -> None:
    settings: dict[str, Any] = {
        **{"aligned_height": 2, "aligned_width": 2, "spatial_scale": 1.0},
        **{"sampling_ratio": 0, "pool_mode": 1, "aligned": True},
    }
    maps, unused = torch.ones(1, 1, 8, 8), torch.empty(0)
    rois = torch.tensor([[0.0, 1, 1, 5, 5], [0, torch.nan, 1, 5, 5], [0, 1, 1, torch.inf, 5]])
    found, gradient = torch.zeros(3, 1, 2, 2), torch.zeros_like(maps)
    mmcv_ops.roi_align_forward(maps, rois, found, unused, unused, **settings)
    assert found[0].eq(1).all() and found[1:].isnan().all()
    mmcv_ops.roi_align_backward(torch.ones_like(found), rois, unused, unused, gradient, **settings)
    torch.testing.assert_close(gradient.sum(), torch.tensor(4.0))


def test_roi_align_by_maxima_is_refused() -> None:
    empty = torch.empty(0)
    with pytest.raises(NotImplementedError, match="pool_mode 'max'"):
        mmcv_ops.roi_align_forward(
            empty,
            empty,
            empty,
            empty,
            empty,
            aligned_height=1,
            aligned_width=1,
            spatial_scale=1.0,
            sampling_ratio=0,
            pool_mode=0,
            aligned=True,
        )


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups", "sets"), [(1, 1, 1, 1, 1), (2, 2, 2, 2, 2)])
def test_deformable_convolution_and_its_gradients(
    stride: int, padding: int, dilation: int, groups: int, sets: int
) -> None:
    generator = draws(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    maps, weight = normal(2, 4, 5, 6), normal(4, 4 // groups, 3, 3)
    rows, columns = ((side + 2 * padding - 2 * dilation - 1) // stride + 1 for side in (5, 6))
    offset = normal(2, 2 * sets * 9, rows, columns)
    expected = reference.deform_conv(maps, offset, weight, stride, padding, dilation, groups, sets)
    geometry = {
        **{"kW": 3, "kH": 3, "dW": stride, "dH": stride, "padW": padding, "padH": padding},
        **{"dilationW": dilation, "dilationH": dilation, "group": groups, "deformable_group": sets, "im2col_step": 2},
    }
    unused = torch.empty(0)
    found = torch.empty_like(expected)
    x, o, w = maps.detach(), offset.detach(), weight.detach()
    mmcv_ops.deform_conv_forward(x, w, o, found.detach(), unused, unused, **geometry)
    torch.testing.assert_close(found, expected, check_stride=False)
    cotangent = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    wanted = torch.autograd.grad((expected * cotangent).sum(), (maps, offset, weight))
    gradients = [torch.zeros_like(tensor) for tensor in (x, o, w)]
    mmcv_ops.deform_conv_backward_input(x, o, cotangent, gradients[0], gradients[1], w, unused, **geometry)
    mmcv_ops.deform_conv_backward_parameters(x, o, cotangent, gradients[2], unused, unused, scale=0.5, **geometry)
    for got, want in zip(gradients, (wanted[0], wanted[1], 0.5 * wanted[2]), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (1.5, 0.6)])
def test_focal_loss_and_its_gradient(gamma: float, alpha: float) -> None:
    generator = draws(4)
    logits = (3 * torch.randn(7, 5, generator=generator)).requires_grad_()
    target = torch.tensor([0, 4, 5, 2, 5, 1, 3])  # 5 is background
    expected = reference.focal(logits.double(), target, gamma, alpha)
    unused, found, gradient = torch.empty(0), torch.empty(7, 5), torch.empty(7, 5)
    mmcv_ops.sigmoid_focal_loss_forward(logits.detach(), target, unused, found, gamma=gamma, alpha=alpha)
    torch.testing.assert_close(found, expected.detach().float())
    mmcv_ops.sigmoid_focal_loss_backward(logits.detach(), target, unused, gradient, gamma=gamma, alpha=alpha)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), logits)[0].float())


def test_focal_loss_stays_finite_where_the_formula_does_not() -> None:
    logits, target = torch.tensor([[90.0, -90.0]]), torch.tensor([1])
    found, gradient = torch.empty(1, 2), torch.empty(1, 2)
    mmcv_ops.sigmoid_focal_loss_forward(logits, target, torch.empty(0), found, gamma=2.0, alpha=0.25)
    mmcv_ops.sigmoid_focal_loss_backward(logits, target, torch.empty(0), gradient, gamma=2.0, alpha=0.25)
    assert found.isfinite().all() and gradient.isfinite().all()
    torch.testing.assert_close(found, torch.tensor([[0.75 * 90.0, 0.25 * 90.0]]))


def test_every_other_operator_can_be_imported_and_says_its_name_when_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, mmcv_ops.NAME, raising=False)
    monkeypatch.setattr(mmcv_ops, "find_spec", lambda name: None)
    assert mmcv_ops.install() == "stand-in (torchvision)"
    module = importlib.import_module(mmcv_ops.NAME)
    assert module.nms is mmcv_ops.nms
    assert hasattr(module, "furthest_point_sampling_forward")
    with pytest.raises(NotImplementedError, match=r"mmcv\._ext\.modulated_deform_conv_forward has no stand-in"):
        module.modulated_deform_conv_forward(torch.empty(0), group=1)
    assert not hasattr(module, "__path__")


def test_it_steps_aside_for_compiled_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = ModuleType(mmcv_ops.NAME)
    compiled.__file__ = "/somewhere/_ext.so"
    monkeypatch.setitem(sys.modules, mmcv_ops.NAME, compiled)
    assert mmcv_ops.install() == "compiled"
    assert sys.modules[mmcv_ops.NAME] is compiled


def test_operators_are_found_on_the_disk_before_they_are_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, mmcv_ops.NAME, raising=False)
    monkeypatch.setattr(mmcv_ops, "find_spec", lambda name: object())
    assert mmcv_ops.install() == "compiled"
    assert mmcv_ops.NAME not in sys.modules


def test_mmcv_calls_them_with_the_arguments_they_have() -> None:
    pytest.importorskip("mmcv")
    from benchmark.models import openmmlab

    openmmlab.prepare()
    from mmcv.ops import DeformConv2d, RoIAlign, batched_nms, sigmoid_focal_loss

    if mmcv_ops.in_use() == "compiled":
        pytest.skip("compiled operators are installed")
    maps = torch.randn(2, 4, 8, 8, generator=draws(5), requires_grad=True)
    pooled = RoIAlign((2, 2), 0.5, sampling_ratio=0)(maps, ROIS.float())
    torch.testing.assert_close(
        pooled.detach(), reference.roi_align(maps.detach(), ROIS.float(), (2, 2), 0.5, 0, True), check_stride=False
    )
    convolution = DeformConv2d(4, 6, 3, padding=1)
    moved = convolution(maps, torch.zeros(2, 18, 8, 8, requires_grad=True))
    plain = torch.nn.functional.conv2d(maps, convolution.weight, padding=1)
    torch.testing.assert_close(moved, plain, rtol=1e-4, atol=1e-5)
    (pooled.square().sum() + moved.square().sum()).backward()
    assert maps.grad is not None and maps.grad.abs().sum() > 0 and convolution.weight.grad.abs().sum() > 0
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8], [0, 0, 9, 9]])
    kept = batched_nms(
        boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 0, 1]), {"type": "nms", "iou_threshold": 0.5}
    )
    assert kept[1].tolist() == [0, 2]
    logits = torch.randn(3, 2, generator=draws(6), requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.tensor([0, 2, 1]), 2.0, 0.25, None, "sum")
    torch.testing.assert_close(loss, reference.focal(logits, torch.tensor([0, 2, 1]), 2.0, 0.25).sum())
    loss.backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
