"""A stand-in for CIFAR-100 where there is none: 100 learnable classes of 32 x 32 images, the same on every machine.

An image is a coloured plane, one of its class's two gratings, one blob, and noise. Colours belong to the 20
superclasses of five classes each, so colour alone cannot tell classes apart; wave, blob size and blob colour are the
class's own, blurred by jitter so that classes overlap. What is measured on this set says nothing about CIFAR-100.

Only the bit generator's raw stream, integer arithmetic and one rounded cosine table are used: numpy promises that
stream for ever, and floating-point results that differ in their last bit between processors cannot reach a pixel.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHA256 = "eb44a882cc199285fc74b157bed23ac226ff75918b92166312b3e267737e0c77"
CLASSES, SUPERCLASSES, SIZE = 100, 20, 32
TRAIN, TEST = 10_000, 2_000

Ints = NDArray[np.int32]
Bytes = NDArray[np.uint8]

_COSINE: Ints = np.round(127 * np.cos(2 * np.pi * np.arange(256) / 256)).astype(np.int32)
_MODES = 2  # gratings a class has; an image shows one of them
_CHUNK = 500  # images at a time: working memory stays near 20 MB


@dataclass(frozen=True)
class Generated:
    """A generated data set: images N,3,32,32 uint8 and labels N int64 of both splits."""

    train_images: Bytes
    train_labels: NDArray[np.int64]
    test_images: Bytes
    test_labels: NDArray[np.int64]

    @property
    def sha256(self) -> str:
        """Return the sha256 hash of the arrays, which is the data set's identity."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"))).data)
        return digest.hexdigest()


class _RawStream:
    """A source of random integers from a seed's raw stream."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def between(self, low: int, high: int, *shape: int) -> Ints:
        """Draw integers in [low, high), in a given shape."""
        raw = self._bits.random_raw(int(np.prod(shape))) >> np.uint64(32)
        scaled = (raw * np.uint64(high - low)) >> np.uint64(32)
        return scaled.astype(np.int32).reshape(shape) + np.int32(low)

    def noise(self, *shape: int) -> Ints:
        """Draw sums of two bytes, centred: a triangular distribution on [-255, 255], standard deviation 104."""
        raw = self._bits.random_raw(int(np.prod(shape)) // 4)
        pair = raw.astype("<u8").view(np.uint8).reshape(2, *shape)
        total: Ints = pair.sum(axis=0, dtype=np.int32) - np.int32(255)
        return total


class _Looks:
    """The appearance of each class. Waves are in 1/256 cycles per pixel, colours in pixel levels."""

    def __init__(self) -> None:
        draws = _RawStream(2305_15712)
        of_class = np.repeat(np.arange(SUPERCLASSES), CLASSES // SUPERCLASSES)
        self.plane = draws.between(70, 186, SUPERCLASSES, 3)[of_class]
        self.ink = draws.between(-80, 81, SUPERCLASSES, 3)[of_class]
        self.wave = draws.between(-64, 65, CLASSES, _MODES, 2)
        self.blob = draws.between(-110, 111, CLASSES, 3)
        self.radius = draws.between(4, 13, CLASSES)


def _images(labels: NDArray[np.int64], looks: _Looks, draws: _RawStream) -> Bytes:
    """Draw one image for each label: N,3,32,32."""
    n = len(labels)
    y, x = (axis.astype(np.int32)[None] for axis in np.mgrid[:SIZE, :SIZE])

    def drawn(low: int, high: int) -> Ints:
        return draws.between(low, high, n, 1, 1)

    wave = looks.wave[labels, draws.between(0, _MODES, n)] + draws.between(-9, 10, n, 2)
    phase = wave[:, 0, None, None] * y + wave[:, 1, None, None] * x + drawn(0, 256)
    grating = _COSINE[phase & 255] * drawn(32, 129) >> 7  # -127..127

    reach = (looks.radius[labels, None, None] + drawn(-2, 3)) ** 2
    away = (y - drawn(4, SIZE - 4)) ** 2 + (x - drawn(4, SIZE - 4)) ** 2
    blob = np.maximum(reach - away, 0) * 128 // reach  # 0..128

    plane = looks.plane[labels] + draws.between(-30, 31, n, 3)
    image = plane[:, :, None, None] + (looks.ink[labels][:, :, None, None] * grating[:, None] >> 7)
    image += looks.blob[labels][:, :, None, None] * blob[:, None] >> 7
    image += draws.noise(n, 3, SIZE, SIZE) * 3 >> 3
    pixels: Bytes = image.clip(0, 255).astype(np.uint8)
    return pixels


def _split(size: int, seed: int) -> tuple[Bytes, NDArray[np.int64]]:
    looks, draws = _Looks(), _RawStream(seed)
    labels = np.arange(size, dtype=np.int64) % CLASSES
    chunks = [_images(labels[at : at + _CHUNK], looks, draws) for at in range(0, size, _CHUNK)]
    return np.concatenate(chunks), labels


def generate() -> Generated:
    """Generate the whole set: 10,000 training and 2,000 test images, balanced. Takes about a second."""
    return Generated(*_split(TRAIN, seed=1), *_split(TEST, seed=2))
