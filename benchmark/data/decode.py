"""The way of one image from its file to the network's input: decode, crop, resize, flip, jitter, RandAugment.

The operations that torchvision's reference pipeline does through Pillow are done here on uint8 tensors: torchvision's
own JPEG decoder gives the same pixels as Pillow's (both are libjpeg-turbo), and torch's antialiased resize of uint8
follows Pillow's arithmetic to within one level. Normalising, mixing and erasing are left to the device, for a whole
batch at once. Decoding at a fraction of the size, which JPEG allows, would be faster but gives other pixels, so it is
not done.

Every random choice comes from a seed of (repetition, epoch, image). So pixels depend neither on the number of workers
nor on which of them decodes an image, and a resumed run gets the pixels of an uninterrupted run.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from benchmark.data.erasing import NOTHING, erasing_box
from benchmark.data.randaugment import Interpolation, Operations, lent_generators, randaugment
from benchmark.errors import UsageError
from benchmark.machine.streams import seed_of
from benchmark.paper.recipe import Recipe

# ImageNet's, as torchvision and timm have them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_TRIES = 10  # of a crop that fits, before the centre is taken: torchvision's and timm's number


@dataclass(frozen=True)
class Augmentation:
    """The settings of image preparation.

    The defaults are the `inception` augmentation of torchvision's references and timm.
    """

    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: Interpolation = "bilinear"  # of crops and of the evaluation; torchvision's references
    flip: float = 0.5
    color_jitter: float | None = None  # brightness, contrast and saturation, each in 1 +- this
    randaugment: str | None = None  # timm's configuration string
    randaugment_operations: Operations = "timm"
    # timm, and image_classification_sota at 6f7a70a, drop colour jitter where RandAugment is on, whatever was asked
    force_color_jitter: bool = False
    random_erasing: float = 0.0  # probability of an image
    evaluation_resize: int = 256  # short side, before the centre crop of `size`

    def __post_init__(self) -> None:
        if self.evaluation_resize < self.size:
            raise UsageError(f"a crop of {self.size} from a short side of {self.evaluation_resize}", "resize to more")
        if self.randaugment is not None:
            # Made here too, so that a wrong string is reported before workers start.
            randaugment(self.randaugment, self.size, self.interpolation, self.randaugment_operations)

    @classmethod
    def for_evaluation(cls, size: int = 224) -> Augmentation:
        """Return the usual evaluation for a size: centre crop 224 from a short side of 256, scaled in proportion."""
        return cls(size=size, evaluation_resize=round(size * 256 / 224))

    @classmethod
    def of(cls, recipe: Recipe, force_color_jitter: bool = False, size: int = 224) -> Augmentation:
        """Return the augmentation that a recipe asks for, at an image size."""
        if recipe.augmentation != "inception":
            raise UsageError(
                f"augmentation {recipe.augmentation}: images of ImageNet are not prepared this way",
                "take a recipe whose augmentation is inception, such as B1",
            )
        return replace(
            cls.for_evaluation(size),
            interpolation=recipe.interpolation,
            color_jitter=recipe.color_jitter or None,
            randaugment=recipe.randaugment,
            randaugment_operations=recipe.randaugment_operations,
            random_erasing=recipe.random_erasing,
            force_color_jitter=force_color_jitter,
        )

    @property
    def jitters(self) -> bool:
        """Return True if colour jitter is applied."""
        return bool(self.color_jitter) and (self.randaugment is None or self.force_color_jitter)


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int


def read_image(path: str) -> Tensor:
    """Read an image file as uint8 3,H,W, stored in memory as H,W,3.

    Raises:
        OSError: the file cannot be read, or is no image.
    """
    content = np.fromfile(path, np.uint8)
    native = _native_decoder()
    if native is None:
        return _by_pillow(content)
    try:
        image = native(torch.from_numpy(content))
    except RuntimeError:  # ImageNet holds a PNG and more that a JPEG decoder refuses; Pillow has the last word
        return _by_pillow(content)
    if image.shape[0] == 1:
        return image.expand(3, -1, -1)
    return image if image.shape[0] == 3 else _by_pillow(content)  # CMYK: the two convert it differently


@cache
def _native_decoder() -> Callable[[Tensor], Tensor] | None:
    """Return a JPEG decoder that keeps the file's channels, or None if only Pillow, which is slower, can decode.

    The decoder calls the operator directly, because torchvision 0.29's function for it warns, at each image, that
    torchvision will give its decoders up. TorchCodec, which takes them over, decodes to the same pixels.
    """
    with contextlib.suppress(ImportError, AttributeError, RuntimeError):
        importlib.import_module("torchvision.io")  # registers the operator
        operator = torch.ops.image.decode_jpeg.default
        unchanged = 0  # torchvision.io.ImageReadMode.UNCHANGED
        return lambda content: operator(content, unchanged, False)
    with contextlib.suppress(ImportError, RuntimeError, OSError):
        decode_jpeg = importlib.import_module("torchcodec.decoders").decode_jpeg  # an optional package
        return lambda content: decode_jpeg(content, mode="UNCHANGED")
    return None


def _by_pillow(content: NDArray[np.uint8]) -> Tensor:
    with warnings.catch_warnings(), Image.open(io.BytesIO(content.tobytes())) as image:
        warnings.simplefilter("ignore")  # of odd palettes and metadata: the pixels are all that is asked for
        return _from_pillow(image.convert("RGB"))


def _to_pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def _from_pillow(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def training_image(
    image: Tensor, augmentation: Augmentation, repetition: int, epoch: int, index: int
) -> tuple[Tensor, tuple[int, int, int, int]]:
    """Return an augmented training image, uint8 3,S,S, and the box to erase on the device: top, left, height, width.

    Each kind of choice has a seed of its own: crops and flips are the same with and without RandAugment or erasing.
    """

    def seed(purpose: str) -> int:
        return seed_of("augment", repetition, epoch, index, purpose)

    draw = random.Random(seed("crop"))
    box = crop_box(draw, image.shape[1], image.shape[2], augmentation.scale, augmentation.ratio)
    flipped = draw.random() < augmentation.flip
    pixels = cropped(image, box, augmentation.size, augmentation.interpolation)
    pixels = pixels.flip(-1) if flipped else pixels
    if augmentation.randaugment is not None or augmentation.jitters:
        pixels = _recoloured(pixels, augmentation, seed("randaugment"), random.Random(seed("jitter")))
    if augmentation.random_erasing == 0:
        return pixels, NOTHING
    return pixels, erasing_box(random.Random(seed("erasing")), augmentation.random_erasing, augmentation.size)


def evaluation_image(image: Tensor, augmentation: Augmentation) -> Tensor:
    """Return the centre of a resized image, uint8 3,S,S: short side to `evaluation_resize`, then a crop of `size`."""
    height, width = image.shape[1:]
    short, size = augmentation.evaluation_resize, augmentation.size
    # torchvision's Resize cuts the long side's fraction off, and its CenterCrop rounds to even
    shape = (int(short * height / width), short) if width < height else (short, int(short * width / height))
    resized = _resized(image, shape, augmentation.interpolation)
    top, left = round((shape[0] - size) / 2), round((shape[1] - size) / 2)
    return resized[:, top : top + size, left : left + size]


def crop_box(
    draw: random.Random, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Box:
    """Draw a random box in an image. `scale` bounds its share of the area, `ratio` its width divided by its height.

    The choices, in number and order, are those of timm's RandomResizedCropAndInterpolation.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(_TRIES):
        area = draw.uniform(*scale) * height * width
        aspect = math.exp(draw.uniform(low, high))
        wide, tall = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if wide <= width and tall <= height:
            return Box(draw.randint(0, height - tall), draw.randint(0, width - wide), tall, wide)
    wide = min(width, round(height * max(ratio)))
    tall = min(height, round(width / min(ratio)))
    return Box((height - tall) // 2, (width - wide) // 2, tall, wide)


def cropped(image: Tensor, box: Box, size: int, interpolation: Interpolation) -> Tensor:
    """Return one box of a uint8 image 3,H,W, resized to 3,S,S."""
    part = image[:, box.top : box.top + box.height, box.left : box.left + box.width]
    return _resized(part, (size, size), interpolation)


def _resized(image: Tensor, shape: tuple[int, int], interpolation: Interpolation) -> Tensor:
    if interpolation == "bicubic":  # overshoots, and torch's is up to six levels off where Pillow's was cut at 255
        return _from_pillow(_to_pillow(image).resize(shape[::-1], Image.Resampling.BICUBIC))
    # In this memory order torch's vectorised kernel reads the three colours as they lie.
    batch = image[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(batch, shape, mode="bilinear", antialias=True)[0]


def _recoloured(pixels: Tensor, augmentation: Augmentation, seed: int, draw: random.Random) -> Tensor:
    """Apply RandAugment, then colour jitter, on Pillow images, in timm's order, so that results equal timm's."""
    image = _to_pillow(pixels)
    if augmentation.randaugment is not None:
        transform = randaugment(
            augmentation.randaugment,
            augmentation.size,
            augmentation.interpolation,
            augmentation.randaugment_operations,
        )
        with lent_generators(seed):
            image = transform(image)
    if augmentation.jitters:
        image = _jittered(image, augmentation.color_jitter or 0.0, draw)
    return _from_pillow(image)


def _jittered(image: Image.Image, strength: float, draw: random.Random) -> Image.Image:
    """Change brightness, contrast and saturation in random order, as torchvision's ColorJitter does."""
    adjustments = [TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation]
    draw.shuffle(adjustments)
    for adjust in adjustments:
        image = adjust(image, draw.uniform(max(0.0, 1.0 - strength), 1.0 + strength))
    return image
