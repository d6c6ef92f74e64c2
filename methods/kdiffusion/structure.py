"""The places in a network where a convolution can be multiplied, and the layer that reads a stage, found by tracing."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import fx, nn

from benchmark.errors import CannotServe
from benchmark.models.taps import Network, untap


@dataclass(frozen=True)
class Site:
    """A convolution and the batch norm that alone reads it, by their paths."""

    convolution: str
    norm: str


class Calls:
    """The layers that a network calls, in order. `network` is a copy without taps."""

    def __init__(self, network: Network) -> None:
        """Trace a copy without taps: taps would record symbols in place of tensors.

        Raises:
            CannotServe: the forward pass cannot be traced.
        """
        self.adapter = network.adapter
        self.network = copy.deepcopy(network.network)
        untap(self.network)
        try:
            self.nodes = [node for node in fx.Tracer().trace(self.network).nodes if node.op == "call_module"]
        except Exception as error:  # a forward pass may raise anything when it is given a symbol instead of a tensor
            raise CannotServe(
                f"the forward pass of {type(self.network).__name__} cannot be traced ({error})"
            ) from error
        self.paths = [str(node.target) for node in self.nodes]

    def site(self, role: str) -> Site:
        """Return the batch norm that makes a stage's pre-activation, or else the stage's last one, and its convolution.

        Raises:
            CannotServe: no batch norm of the stage follows a convolution directly.
        """
        sites = {site.norm: site for site in self._sites()}
        preact = self.adapter.taps.get(f"{role}.preact")
        named = preact.norm if preact is not None else None
        if named in sites:
            return sites[named]
        inside = [site for path, site in sites.items() if _holds(self.adapter.taps[role].module, path)]
        if not inside:
            raise CannotServe(f"in {role} no batch norm follows a convolution directly: there is nothing to multiply")
        return inside[-1]

    def layer_after(self, role: str, channels: int) -> nn.Conv2d | nn.Linear:
        """Return the first convolution or linear layer after a stage of `channels` channels.

        Raises:
            CannotServe: there is none, or it reads another number of channels.
        """
        inside = [index for index, path in enumerate(self.paths) if _holds(self.adapter.taps[role].module, path)]
        for path in self.paths[inside[-1] + 1 :] if inside else ():
            layer = self.network.get_submodule(path)
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                reads = layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features
                if reads == channels:
                    return layer
                raise CannotServe(f"{path} behind {role} reads {reads} channels and not its {channels}: no guidance")
        raise CannotServe(f"no layer with weights follows {role}: no guidance")

    def _sites(self) -> list[Site]:
        found = []
        for norm in filter(self._is_usual_norm, self.nodes):
            convolution = norm.args[0] if norm.args else None
            if not isinstance(convolution, fx.Node) or convolution.op != "call_module":
                continue
            if self._is(convolution, nn.Conv2d) and tuple(convolution.users) == (norm,):
                found.append(Site(str(convolution.target), str(norm.target)))
        return found

    def _is(self, node: fx.Node, kind: type[nn.Module]) -> bool:
        """Return True if a layer is called once and is of exactly this type: a subclass may do more."""
        path = str(node.target)
        return self.paths.count(path) == 1 and type(self.network.get_submodule(path)) is kind

    def _is_usual_norm(self, node: fx.Node) -> bool:
        norm = self.network.get_submodule(str(node.target))
        usual = isinstance(norm, nn.BatchNorm2d) and norm.affine and norm.track_running_stats
        return usual and self._is(node, nn.BatchNorm2d)


def _holds(outer: str, inner: str) -> bool:
    return inner == outer or inner.startswith(f"{outer}.")
