"""Splitting of a batch over all devices: which images one batch norm sees, and where randomness comes from.

A recipe that states a per-device batch is trained with it on any number of devices that divides the batch: a batch is
split into shards of that size, each device takes its share of them one after the other and adds up their gradients.
Shards know nothing of devices: their noise is seeded by step and shard, the running statistics of batch norms follow
the first shard alone, as the weights that data-parallel training saves are the first device's. So eight devices with
one shard each, and one device with eight, differ by the order of additions only. What cannot be equal is a memory of
the samples seen (CRD): shards that run at once do not yet see each other's entries.

A recipe without a per-device batch lets batch norm see the whole batch. Over several GPUs the norms are synchronised;
on CPUs, where torch cannot, only the smoke profile may run, with norms that see a rank's part. Noise is drawn for the
whole batch on every rank, which keeps its own samples'. Losses that compare the samples of a batch (RKD, PKT, DIST) see
a shard or a rank's part, as their sources' do; dropout, erasing and mixing are drawn for each of these parts too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from benchmark.errors import UsageError
from benchmark.machine.ranks import Ranks
from benchmark.machine.streams import seed_of
from benchmark.paper.recipe import Recipe
from benchmark.paper.suite import ProfileName
from benchmark.plan.experiment import Run
from benchmark.train.engine.distiller import Distiller
from methods.base import Batch


def shards_of(recipe: Recipe, ranks: Ranks) -> int:
    """Return the number of parts that a batch is split into, over all ranks.

    Raises:
        UsageError: the batch cannot be split into equal parts.
    """
    size = recipe.per_device_batch or recipe.batch // ranks.world
    total, beside = divmod(recipe.batch, size) if size else (0, 1)
    if beside or total % ranks.world:
        stated = f", in parts of {recipe.per_device_batch}" if recipe.per_device_batch else ""
        whole = recipe.batch // (recipe.per_device_batch or 1)
        fitting = [count for count in range(1, min(whole, 64) + 1) if whole % count == 0]
        raise UsageError(
            f"a batch of {recipe.batch}{stated} cannot be shared by {ranks.world} processes",
            f"start {', '.join(map(str, fitting))} of them, or choose a per_device_batch that divides the batch",
        )
    return total


def with_norms_for(distiller: Distiller, recipe: Recipe, ranks: Ranks, profile: ProfileName) -> None:
    """Make batch norms see the whole batch, in place, if the recipe asks for it and several ranks share the batch.

    Taps on norms are lost with the old norms: bind them again.

    Raises:
        UsageError: norms would have to be synchronised between CPUs, outside the smoke profile; or a norm is of a class
            that cannot be synchronised.
    """
    if ranks.world == 1 or recipe.per_device_batch or not any(isinstance(m, _BatchNorm) for m in distiller.modules()):
        return
    if next(distiller.parameters()).device.type == "cuda":
        synchronise(distiller)
    elif profile != "smoke":
        raise UsageError(
            f"the recipe lets batch norm see all {recipe.batch} images of a step, which torch cannot do between CPUs",
            "train in one process, on GPUs, or with a recipe that states a per_device_batch",
        )


def synchronise(network: nn.Module) -> None:
    """Replace every batch norm in a network by one that sees the whole batch and otherwise behaves the same.

    Raises:
        UsageError: a norm is of a class that neither torch nor timm has a synchronised form of.
    """
    from timm.layers.norm_act import BatchNormAct2d, SyncBatchNormAct, convert_sync_batchnorm

    # Exact types: timm's conversion, like torch's, makes a plain norm of a subclass and drops what the subclass adds.
    known = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNormAct2d)
    made: dict[nn.Module, nn.Module] = {}  # a norm with two paths stays one norm
    for path, module in list(network.named_modules(remove_duplicate=False)):
        if not isinstance(module, _BatchNorm) or type(module) in (nn.SyncBatchNorm, SyncBatchNormAct):
            continue
        if type(module) not in known:
            raise UsageError(
                f"{path} is a {type(module).__module__}.{type(module).__qualname__}, "
                "a batch norm that has no synchronised form",
                "train in one process, or with a recipe that states a per_device_batch",
            )
        if module not in made:
            made[module] = convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        network.set_submodule(path, made[module])


@dataclass
class Shards:
    """One rank's shards: they split its batches, and set up the context of each shard's forward and backward pass."""

    run: Run
    ranks: Ranks
    total: int  # over all ranks
    distiller: nn.Module
    noise: torch.Generator
    _norms: list[_BatchNorm] = field(init=False)
    _draws: bool = field(init=False)

    def __post_init__(self) -> None:
        self._norms = [module for module in self.distiller.modules() if isinstance(module, _BatchNorm)]
        self._draws = draws(self.distiller)

    @property
    def count(self) -> int:
        """Return the number of shards in one step on this rank."""
        return self.total // self.ranks.world

    @property
    def by_host(self) -> bool:
        """Return True if the host has work around a step's shards.

        Replaying a captured step would leave this work out.
        """
        return self.total > 1 or self._by_shard or self._draws

    @property
    def _by_shard(self) -> bool:
        recipe = self.run.experiment.recipe
        return recipe is not None and recipe.per_device_batch is not None

    def cut(self, batch: Batch) -> list[Batch]:
        """Split this rank's part of a batch into shards of equal size."""
        if self.count == 1:
            return [batch]
        parts = (tensor.chunk(self.count) for tensor in (batch.inputs, batch.targets, batch.indices))
        return [Batch(*shard) for shard in zip(*parts, strict=True)]

    @contextlib.contextmanager
    def around(self, trained: nn.Module, index: int, step: int) -> Iterator[None]:
        """Set up randomness, running statistics and gradient exchange for this rank's shard `index` of a step."""
        if not self.by_host:
            yield
            return
        number = self.ranks.rank * self.count + index
        if self._by_shard:
            self.noise.manual_seed(self._seed("method-noise", step, number))
        with contextlib.ExitStack() as stack:
            if self._draws:
                stack.enter_context(_lent(self._seed("layers", step, number), self.noise.device))
            if index > 0:
                stack.enter_context(_unfollowed(self._norms))
            if index < self.count - 1 and isinstance(trained, DistributedDataParallel):
                stack.enter_context(trained.no_sync())
            yield

    def _seed(self, stream: str, step: int, shard: int) -> int:
        return seed_of(stream, self.run.repetition, self.run.experiment.identity, step, shard)


def draws(network: nn.Module) -> bool:
    """Return True if a forward pass in training draws random numbers, as dropout and stochastic depth do."""
    chances = ("p", "drop_prob", "drop_rate")  # torch's and torchvision's, timm's layers, timm's networks
    values = (getattr(module, name, 0) for module in network.modules() for name in chances)
    return any(isinstance(value, (int, float)) and value > 0 for value in values)


@contextlib.contextmanager
def _lent(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generator, which dropout draws from, and restore it afterwards."""
    on_gpu = device.type == "cuda"
    index = (torch.cuda.current_device() if device.index is None else device.index) if on_gpu else 0
    generator = torch.cuda.default_generators[index] if on_gpu else torch.default_generator
    before: Tensor = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(before)


@contextlib.contextmanager
def _unfollowed(norms: list[_BatchNorm]) -> Iterator[None]:
    """Keep the running statistics of batch norms unchanged. The norms still normalise by the batch."""
    following = [norm for norm in norms if norm.track_running_stats]
    for norm in following:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in following:
            norm.track_running_stats = True
