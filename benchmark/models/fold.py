"""Folding of batch norms into the convolutions before them, for a teacher that is never trained."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmark.models.taps import untap

# Exact types: a subclass may do more than its name says, as timm's batch norms with an activation do.
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold_batch_norms(network: nn.Module, keep: Iterable[str] = ()) -> nn.Module:
    """Return a frozen copy in eval mode whose batch norms are folded into the convolutions directly before them.

    A folded batch norm becomes an identity under its old path, so taps on its output still bind. `keep` lists modules
    whose own output must survive: `[tap.module for tap in adapter.taps.values() if tap.at == "output"]`. A pair that
    cannot be folded safely stays as it is; if the forward pass cannot be traced, the whole network does. The copy
    carries no taps.
    """
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    untap(folded)
    kept = tuple(keep)
    for convolution, norm in list(_pairs(folded)):
        if not any(_holds(path, convolution) and not _holds(path, norm) for path in kept):
            _fold(folded, convolution, norm)
    return folded


def _fold(network: nn.Module, convolution: str, norm: str) -> None:
    before, after = network.get_submodule(convolution), network.get_submodule(norm)
    assert isinstance(before, CONVOLUTIONS) and isinstance(after, _BatchNorm)
    network.set_submodule(convolution, fuse_conv_bn_eval(before, after))
    network.set_submodule(norm, nn.Identity())


def _holds(outer: str, inner: str) -> bool:
    return inner == outer or inner.startswith(f"{outer}.")


def _pairs(network: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the paths of each convolution and batch norm that can be folded: neither is used by anything else."""
    nodes = _traced(network)
    uses = Counter(owner for node in nodes if (owner := _owner(node)))
    paths = Counter(id(module) for _, module in network.named_modules(remove_duplicate=False))

    def called_once(node: fx.Node, types: tuple[type[nn.Module], ...]) -> bool:
        """Return True if a module is called here only, has one path, no hooks, and weights read nowhere else."""
        if node.op != "call_module" or uses[str(node.target)] > 1:
            return False
        module = network.get_submodule(str(node.target))
        hooked = module._forward_hooks or module._forward_pre_hooks
        return type(module) in types and paths[id(module)] == 1 and not hooked

    for norm in nodes:
        convolution = norm.args[0] if norm.args else None
        if not isinstance(convolution, fx.Node) or len(convolution.users) > 1:
            continue
        if called_once(convolution, CONVOLUTIONS) and called_once(norm, NORMS):
            after = network.get_submodule(str(norm.target))
            if isinstance(after, _BatchNorm) and after.running_mean is not None:
                yield str(convolution.target), str(norm.target)


def _traced(network: nn.Module) -> list[fx.Node]:
    try:
        return list(fx.Tracer().trace(network).nodes)
    except Exception:  # a forward pass may raise anything when it is given a symbol instead of a tensor
        return []


def _owner(node: fx.Node) -> str:
    """Return the path of the module that a node calls or whose weight it reads, or an empty string."""
    match node.op:
        case "call_module":
            return str(node.target)
        case "get_attr":
            return str(node.target).rpartition(".")[0]
        case _:
            return ""
