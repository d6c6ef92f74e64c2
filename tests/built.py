"""Networks built once and copied: building the large ones takes longer than what most tests do with them."""

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
    """Have `ModelEntry.build` give copies of the last `most` networks that it built.

    Nothing can tell: a build is asked for again only from the same state of torch's generator, which it leaves as
    the first one did, so a copy has the same bits.
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
