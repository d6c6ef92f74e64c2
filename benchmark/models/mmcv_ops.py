"""A stand-in for `mmcv._ext`, the compiled operators that mmcv-lite comes without.

Only what this project's detectors need is here, computed by torchvision; every other operator can be imported, as
mmcv does for all of them at once, and raises NotImplementedError with its name when it is called. The functions have
the compiled ones' names, arguments and habit of writing into the tensors they are given.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import ops

NAME = "mmcv._ext"


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the indices of the boxes N,4 that are kept, best first. `offset` is added to width and height."""
    if offset:
        boxes = boxes + boxes.new_tensor([0.0, 0.0, offset, offset])
    kept: Tensor = ops.nms(boxes, scores.to(boxes.dtype), iou_threshold)
    return kept


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the averages of the regions R,5 (image, x1, y1, x2, y2) of maps B,C,H,W into `output` R,C,h,w."""
    _only_averages(pool_mode)
    rois, known = _within_memory(rois.to(input.dtype))
    found = ops.roi_align(input, rois, (aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned)
    output.copy_(torch.where(known, found, torch.nan))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add the regions' gradients R,C,h,w to the maps' gradient `grad_input` B,C,H,W."""
    _only_averages(pool_mode)
    rois, known = _within_memory(rois.to(grad_output.dtype))
    grad_output, shape = torch.where(known, grad_output, 0.0), grad_input.shape
    backward = torch.ops.torchvision._roi_align_backward
    grad_input += backward(
        grad_output, rois, spatial_scale, aligned_height, aligned_width, *shape, sampling_ratio, aligned
    )


def _within_memory(rois: Tensor) -> tuple[Tensor, Tensor]:
    """Return regions R,5 that torchvision can take, and a mask R,1,1,1 that is False for the replaced ones.

    When a training diverges, regions contain NaN or infinity; torchvision would then read and write outside the maps.
    """
    known = rois.isfinite().all(dim=1)
    return torch.where(known[:, None], rois, 0.0), known[:, None, None, None]


def _only_averages(pool_mode: int) -> None:
    if pool_mode == 0:
        raise NotImplementedError("mmcv._ext.roi_align with pool_mode 'max' has no stand-in: install compiled mmcv")


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    **implied: int,
) -> None:
    """Write the deformable convolution of B,C,H,W into `output`. Tensor shapes determine kernel size and groups."""
    output.copy_(ops.deform_conv2d(input, offset, weight, None, (dH, dW), (padH, padW), (dilationH, dilationW)))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **geometry: int,
) -> None:
    """Add the gradients of the input and of the offsets to `grad_input` and `grad_offset`."""
    found = _deform_conv_backward(input, offset, grad_output, weight, geometry)
    grad_input += found[0]
    grad_offset += found[2]


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    scale: float,
    **geometry: int,
) -> None:
    """Add the gradient of the weights, times `scale`, to `grad_weight`."""
    # The weights' own values play no part in their gradient.
    found = _deform_conv_backward(input, offset, grad_output, torch.zeros_like(grad_weight), geometry)
    grad_weight += scale * found[1]


def _deform_conv_backward(
    input: Tensor, offset: Tensor, grad_output: Tensor, weight: Tensor, geometry: dict[str, int]
) -> tuple[Tensor, ...]:
    pairs = (geometry[name] for name in ("dH", "dW", "padH", "padW", "dilationH", "dilationW"))
    no_mask, no_bias = input.new_zeros((input.shape[0], 1)), input.new_zeros(weight.shape[0])
    found: tuple[Tensor, ...] = torch.ops.torchvision._deform_conv2d_backward(
        grad_output.contiguous(),
        *(tensor.contiguous() for tensor in (input, weight, offset, no_mask, no_bias)),
        *pairs,
        geometry["group"],
        geometry["deformable_group"],
        False,
    )
    return found


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, *, gamma: float, alpha: float
) -> None:
    """Write the focal loss of logits N,C with class indices N into `output` N,C. Index C is background."""
    output.copy_(_focal_loss(input, target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, *, gamma: float, alpha: float
) -> None:
    """Write the gradient of each element's own loss into `grad_input` N,C."""
    with torch.enable_grad():
        logits = input.detach().requires_grad_()
        loss = _focal_loss(logits, target, weight, gamma, alpha)
        grad_input.copy_(torch.autograd.grad(loss.sum(), logits)[0])


def _focal_loss(logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    scores = logits.float()  # half precision has no room for the tails
    positive = F.one_hot(target, logits.shape[1] + 1)[:, :-1].bool()
    probability = scores.sigmoid()
    hit = -alpha * (1 - probability) ** gamma * F.logsigmoid(scores)
    miss = -(1 - alpha) * probability**gamma * F.logsigmoid(-scores)
    loss = torch.where(positive, hit, miss)
    return loss * weight[target][:, None] if weight.numel() else loss


def get_compiler_version() -> str:
    """Return the answer of `mmcv.ops.get_compiler_version`."""
    return "none: benchmark.models.mmcv_ops stands in"


def get_compiling_cuda_version() -> str:
    """Return the answer of `mmcv.ops.get_compiling_cuda_version`."""
    return "not available"


STANDING_IN: tuple[Callable[..., Any], ...] = (
    nms,
    roi_align_forward,
    roi_align_backward,
    deform_conv_forward,
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    sigmoid_focal_loss_forward,
    sigmoid_focal_loss_backward,
    get_compiler_version,
    get_compiling_cuda_version,
)


def _missing(name: str) -> Callable[..., NoReturn]:
    if name.startswith("__"):
        raise AttributeError(name)

    def refuse(*arguments: Any, **named: Any) -> NoReturn:
        raise NotImplementedError(f"{NAME}.{name} has no stand-in: install mmcv with its compiled operators")

    return refuse


def install() -> str:
    """Register the stand-in unless compiled operators are installed. Return which are in use, as in `in_use`.

    Must run before anything imports `mmcv.ops`, which binds all operators when it is imported.
    """
    if NAME not in sys.modules and find_spec(NAME) is None:
        module = ModuleType(NAME, __doc__)
        module.__spec__ = ModuleSpec(NAME, loader=None)  # mmengine asks for it; no loader reads as "not compiled"
        for function in STANDING_IN:
            setattr(module, function.__name__, function)
        module.__getattr__ = _missing  # type: ignore[method-assign]
        sys.modules[NAME] = module
    return in_use()


def in_use() -> str:
    """Return `compiled` or `stand-in (torchvision)`: the operators that mmcv has, or would get from `install`."""
    found = sys.modules.get(NAME)
    compiled = find_spec(NAME) is not None if found is None else hasattr(found, "__file__")
    return "compiled" if compiled else "stand-in (torchvision)"
