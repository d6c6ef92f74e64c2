"""Networks that are built once and copied: building the large ones takes longer than most tests that use them."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from benchmark.models.registry import ModelEntry


@contextmanager
def built_once(most: int = 3) -> Iterator[None]:
    """Let `ModelEntry.build` return copies of the last `most` networks that it built.

    Tests cannot notice it. A copy is returned only for the same state of torch's generator, and leaves the generator
    in the state in which the first build left it, so a copy has the same bits.
    """
    kept: OrderedDict[Hashable, tuple[nn.Module, torch.Tensor]] = OrderedDict()
    build = ModelEntry.build

    def copied(entry: ModelEntry, classes: int, **wishes: float) -> nn.Module:
        state = torch.get_rng_state().numpy().tobytes()
        key = (entry.name, entry.by_hand, classes, *sorted(wishes.items()), torch.get_default_device(), state)
        if key not in kept:
            kept[key] = build(entry, classes, **wishes), torch.get_rng_state()
        kept.move_to_end(key)
        while len(kept) > most:
            kept.popitem(last=False)
        network, after = kept[key]
        torch.set_rng_state(after)
        return copy.deepcopy(network)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ModelEntry, "build", copied)
        yield
