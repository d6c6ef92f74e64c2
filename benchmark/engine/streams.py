"""Randomness: named streams, each derived from the seed, the repetition and its own name."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch

# One seed for the whole project: repetitions are what varies.
GLOBAL_SEED = 0


def seed_of(stream: str, repetition: int, *more: object) -> int:
    """A 63-bit seed. `init`, `data` and `augment` are the same for all experiments, so that comparisons are paired."""
    text = "/".join(map(str, (GLOBAL_SEED, repetition, stream, *more)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(stream: str, repetition: int, *more: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own for a stream."""
    return torch.Generator(device).manual_seed(seed_of(stream, repetition, *more))


@contextlib.contextmanager
def initialising(stream: str, repetition: int, *more: object) -> Iterator[None]:
    """Torch's initialisers draw from the global generator: lend them a seeded one, and give it back as it was."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which seeds the generators of GPUs too, and those are not given back.
        torch.default_generator.manual_seed(seed_of(stream, repetition, *more))
        yield
