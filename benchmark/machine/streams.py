"""Random numbers in named streams. Each stream's seed is derived from the global seed, the repetition and its name."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch

# The same for the whole project: only the repetition varies.
GLOBAL_SEED = 0


def seed_of(stream: str, repetition: int, *more: object) -> int:
    """Return a stream's 63-bit seed.

    The streams `init`, `data` and `augment` are the same in all experiments, so that repetitions can be compared in
    pairs.
    """
    text = "/".join(map(str, (GLOBAL_SEED, repetition, stream, *more)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(stream: str, repetition: int, *more: object, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a new generator for a stream."""
    return torch.Generator(device).manual_seed(seed_of(stream, repetition, *more))


@contextlib.contextmanager
def initialising(stream: str, repetition: int, *more: object) -> Iterator[None]:
    """Seed torch's global generator, which initialisers draw from, and restore it afterwards."""
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would seed the generators of GPUs too, which `fork_rng(devices=[])` does not restore.
        torch.default_generator.manual_seed(seed_of(stream, repetition, *more))
        yield
