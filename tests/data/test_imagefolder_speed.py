"""Images a second on one core against torchvision's reference pipeline for classification, on the same JPEG files."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder as Torchvisions

from benchmark.data.decode import IMAGENET_MEAN, IMAGENET_STD, Augmentation
from benchmark.data.generated_folder import Request, generate
from benchmark.data.image_index import load
from benchmark.data.imagefolder import ImageFolderData

BATCH, IMAGES, PAIRS = 32, 96, 15


@pytest.fixture
def one_core() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    threads = torch.get_num_threads()
    os.sched_setaffinity(0, {max(before)})
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    os.sched_setaffinity(0, before)


def seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@pytest.mark.alone
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cannot stay on one core here")
@pytest.mark.usefixtures("one_core")
def test_decoding_is_much_faster_than_the_reference(tmp_path: Path) -> None:
    # What reaches the device is uint8 here and normalised float32 there: a worker's whole share of the work in both.
    root = generate(tmp_path / "images", Request(classes=8, train=IMAGES, test=8))
    data = ImageFolderData(load("speed", root, cache=tmp_path), Augmentation(), torch.device("cpu"), workers=0)
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(224),
            transforms.RandomHorizontalFlip(),
            transforms.PILToTensor(),
            transforms.ConvertImageDtype(torch.float),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    reference = DataLoader(Torchvisions(root / "train", transform), batch_size=BATCH, shuffle=True)
    epochs = iter(range(10**6))

    def theirs() -> None:
        assert sum(len(inputs) for inputs, _ in reference) == IMAGES

    def ours() -> None:
        assert sum(len(pixels) for pixels in data.decoded(data.epoch_plan(0, next(epochs)), BATCH)) == IMAGES

    seconds(theirs), seconds(ours)
    pairs = [(seconds(theirs), seconds(ours)) for _ in range(PAIRS)]
    ratios = [reference / own for reference, own in pairs]
    rates = [IMAGES / statistics.median(column) for column in zip(*pairs, strict=True)]
    print(
        f"\nimages a second and core: {rates[0]:.0f} reference, {rates[1]:.0f} here; "
        f"ratio {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}, n = {PAIRS}"
    )
    assert statistics.median(ratios) > 1.5
