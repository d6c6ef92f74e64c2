"""The process's own random generators, which OpenMMLab's packages draw from: lent to a run, seeded, and restored."""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Iterator

import numpy as np
import torch

from benchmark.train import precision


@contextlib.contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Seed the generators that mm transforms and detectors draw from, and restore them afterwards."""
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        # The generators of GPUs are the run's own, so nothing has to be restored.
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.manual_seed_all(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


@contextlib.contextmanager
def own_generators(precision_name: str, device: torch.device) -> Iterator[None]:
    """Set the recorded arithmetic, and restore the global generators, which MMEngine seeds, afterwards."""
    before = random.getstate(), np.random.get_state()
    arithmetic = precision.arithmetic(precision_name, device.type == "cpu")
    with torch.random.fork_rng(devices=[]), arithmetic, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # OpenMMLab's own calls of what newer versions deprecate
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
