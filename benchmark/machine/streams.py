"""Randomness: named streams, each derived from the seed, the repetition and its own name."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch

# One seed for the whole project: repetitions are what varies.
GLOBAL_SEED = 0


def seed_of(stream: str, repetition: int, *more: object) -> int:
    """Return a 63-bit seed.

    `init`, `data` and `augment` are equal for all experiments, so that comparisons are paired.
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
        # Not torch.manual_seed, which seeds the generators of GPUs too, and those are not restored.
        torch.default_generator.manual_seed(seed_of(stream, repetition, *more))
        yield
