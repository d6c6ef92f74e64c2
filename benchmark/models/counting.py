"""The cost of networks and methods: parameters, and multiply-adds under named conventions.

Everything is counted by shapes, on tensors without memory: no weights, no data, no arithmetic.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmark.models.registry import model
from benchmark.models.taps import Network

Shape = tuple[int, ...]


def parameters(network: nn.Module) -> int:
    """Return the number of trainable and frozen parameters, without buffers."""
    return sum(p.numel() for p in network.parameters())


def macs(network: nn.Module, shape: Shape) -> int:
    """Count the multiply-adds of convolutions and matrix products in one forward pass of an input B,C,H,W."""
    with FlopCounterMode(display=False) as counter:
        _pass(_on_meta(network), shape)
    return int(counter.get_total_flops()) // 2


def flops(network: nn.Module, shape: Shape) -> int:
    """Count operations: each multiply-add is two."""
    return 2 * macs(network, shape)


def cirkd_macs(network: nn.Module, shape: Shape) -> int:
    """Count multiply-adds as CIRKD's counter does (github winycg/CIRKD @ 8af83a9, utils/flops.py)."""
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal total
        if type(module) is nn.Conv2d:
            total += module.weight.numel() * _area_without_dilation(module, inputs[0].shape)
        elif type(module) is nn.Linear:
            total += module.weight.numel()

    counted = _on_meta(network)
    for module in counted.modules():
        module.register_forward_pre_hook(count)
    _pass(counted, shape)
    return total


def _area_without_dilation(convolution: nn.Conv2d, shape: torch.Size) -> int:
    assert not isinstance(convolution.padding, str)
    area = 1
    for axis in (0, 1):
        padded = shape[2 + axis] + 2 * convolution.padding[axis]
        area *= (padded - convolution.kernel_size[axis]) // convolution.stride[axis] + 1
    return area


def _on_meta(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).to("meta").eval()


def _pass(network: nn.Module, shape: Shape) -> None:
    with torch.no_grad():
        network(torch.empty(shape, device="meta"))


FVCORE_OPERATORS = ("conv", "linear", "addmm", "matmul", "bmm", "einsum")  # not norms, pooling and resizing


def fvcore_macs(network: nn.Module, shape: Shape) -> int:
    """Count multiply-adds of convolutions and matrix products with fvcore, a second and independent counter.

    It traces a real forward pass, so the network needs memory and time.

    Raises:
        ImportError: fvcore is not installed.
    """
    traced = copy.deepcopy(network).eval()
    for module in traced.modules():
        if hasattr(module, "fused_attn"):  # fvcore does not know the fused attention of timm's transformers
            setattr(module, "fused_attn", False)  # noqa: B010 (to mypy a module's attributes are modules)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fvcore's import, and of the tracer about python numbers
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(traced, torch.zeros(shape))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        by_operator: Mapping[str, float] = analysis.by_operator()
    return int(sum(by_operator.get(name, 0) for name in FVCORE_OPERATORS))


@dataclass(frozen=True)
class Convention:
    """A way to count the cost of a forward pass, with its strengths and weaknesses."""

    name: str
    count: Callable[[nn.Module, Shape], int]
    counts: str
    right: str
    wrong: str


CONVENTIONS: Mapping[str, Convention] = {
    convention.name: convention
    for convention in (
        Convention(
            "macs",
            macs,
            "multiply-adds of convolutions and matrix products, attention included, by torch's own counter",
            "right for every network here: sizes are those of the tensors that are computed, dilation and padding "
            "honoured",
            "leaves out element-wise operations, norms, pooling and resizing: few operations, though not little time",
        ),
        Convention(
            "flops",
            flops,
            "operations, two for each multiply-add",
            "right where FLOPs is taken at its word, as for the peak rate of a device",
            "twice what papers print: all FLOPs of this one are multiply-adds",
        ),
        Convention(
            "cirkd",
            cirkd_macs,
            "multiply-adds of nn.Conv2d and nn.Linear layers by CIRKD's formulas; an output size is "
            "floor((H + 2 padding - kernel) / stride) + 1",
            "equal to macs for networks of undilated convolutions whose linear layers see one vector each",
            "overcounts dilated convolutions, whose padding is counted and whose reach is not; undercounts linear "
            "layers that run at every position (transformers), attention, and subclasses of nn.Conv2d "
            "(timm's same-padded ones)",
        ),
    )
}


def on_meta(name: str, classes: int) -> Network:
    """Build a registered network with all of its taps, on tensors without memory."""
    plain = model(name).on_meta(classes)
    return Network(plain, model(name).adapter(plain), ("*",))
