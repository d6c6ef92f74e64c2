"""Batches of an image folder: the same whoever decodes them, shared among ranks, resumed in the middle."""

from __future__ import annotations

import multiprocessing
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder as Torchvisions

from benchmark.data.decode import IMAGENET_MEAN, IMAGENET_STD, Augmentation
from benchmark.data.generated_folder import Request, generate
from benchmark.data.image_index import ImageFolder, load
from benchmark.data.imagefolder import ImageFolderData, cores
from benchmark.errors import MissingInput, UsageError
from benchmark.paper.recipe import recipe
from methods.base import Batch

CPU = torch.device("cpu")
SMALL = Augmentation(size=24, evaluation_resize=28)
RICH = Augmentation(size=24, evaluation_resize=28, randaugment="rand-m9-mstd0.5", random_erasing=0.5)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("data") / "images", Request(classes=3, train=22, test=13, scale=0.1))


@pytest.fixture(scope="module")
def images(root: Path, tmp_path_factory: pytest.TempPathFactory) -> ImageFolder:
    return load("generated", root, cache=tmp_path_factory.mktemp("cache"))


def data_of(images: ImageFolder, augmentation: Augmentation = SMALL, **options: object) -> ImageFolderData:
    return ImageFolderData(images, augmentation, CPU, **{"workers": 0, **options})


@pytest.fixture(scope="module")
def rich(images: ImageFolder) -> Iterator[ImageFolderData]:
    """Two workers and every augmentation."""
    data = data_of(images, RICH, workers=2, mixup=0.8, cutmix=1.0)
    yield data
    data.close()


def epoch(data: ImageFolderData, number: int = 0, size: int = 6, start: int = 0, repetition: int = 0) -> list[Batch]:
    return list(data.batches(data.epoch_plan(repetition, number), size, start))


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(getattr(a, name), getattr(b, name))
        for a, b in zip(one, other, strict=True)
        for name in ("inputs", "targets", "indices")
    )


def indices(batches: list[Batch]) -> list[int]:
    return torch.cat([batch.indices for batch in batches]).tolist()


def test_an_epoch_shows_every_image_once_with_its_class(images: ImageFolder) -> None:
    data = data_of(images)
    batches = epoch(data)
    assert [len(batch.inputs) for batch in batches] == [6, 6, 6, 4]
    assert data.steps(6) == 4
    assert sorted(indices(batches)) == list(range(22))
    assert all(torch.equal(batch.targets, data.labels[batch.indices]) for batch in batches)
    assert batches[0].inputs.shape == (6, 3, 24, 24)
    assert batches[0].inputs.dtype == torch.float32
    assert batches[0].inputs.is_contiguous(memory_format=torch.channels_last)
    assert (len(data), data.classes) == (22, 3)


def test_epochs_and_repetitions_differ_and_come_again(images: ImageFolder) -> None:
    data = data_of(images)
    first = epoch(data)
    assert same(first, epoch(data))
    for other in (epoch(data, 1), epoch(data, repetition=1)):
        assert indices(other) != indices(first)
        assert not same(other, first)


def test_pixels_do_not_depend_on_the_number_of_workers(images: ImageFolder, rich: ImageFolderData) -> None:
    alone = data_of(images, RICH, mixup=0.8, cutmix=1.0)
    for number in range(2):
        assert same(epoch(alone, number), epoch(rich, number))


def test_a_resumed_epoch_goes_on_with_the_same_pixels(images: ImageFolder, rich: ImageFolderData) -> None:
    whole = epoch(rich, 3)
    assert same(epoch(rich, 3, start=2), whole[2:])
    assert epoch(rich, 3, start=4) == []


def test_a_resumed_epoch_does_not_read_what_was_passed(root: Path, images: ImageFolder, tmp_path: Path) -> None:
    data = data_of(images)
    plan = data.epoch_plan(0, 0)
    passed = Path(images.train.path(int(plan.order[0])))
    passed.rename(tmp_path / "away")
    try:
        assert len(list(data.batches(plan, 6, 1))) == 3
        with pytest.raises(MissingInput):
            list(data.batches(plan, 6))
    finally:
        (tmp_path / "away").rename(passed)


def test_batches_asked_for_one_by_one_are_those_of_the_epoch(rich: ImageFolderData) -> None:
    whole = epoch(rich, 2)
    plan = rich.epoch_plan(0, 2)
    assert same([rich.batch(plan, start, 6) for start in (0, 6)], whole[:2])
    list(rich.evaluation_batches(5))  # takes the workers away in the middle
    assert same([rich.batch(plan, start, 6) for start in (12, 18)], whole[2:])
    assert same([rich.batch(plan, 6, 6)], whole[1:2])
    with pytest.raises(UsageError, match="starts at image 7"):
        rich.batch(plan, 7, 6)


def test_a_pass_that_another_replaced_says_so(images: ImageFolder) -> None:
    data = data_of(images)
    old = data.batches(data.epoch_plan(0, 0), 6)
    next(old)
    next(data.batches(data.epoch_plan(0, 1), 6))
    with pytest.raises(RuntimeError, match="another pass"):
        next(old)


def test_ranks_share_what_one_alone_would_see(images: ImageFolder) -> None:
    alone = epoch(data_of(images), size=6)
    ranks = [epoch(data_of(images, rank=rank, world=2), size=6) for rank in range(2)]
    for step, batch in enumerate(alone):
        parts = [rank[step] for rank in ranks]
        assert torch.equal(torch.cat([part.inputs for part in parts]), batch.inputs)
        assert torch.equal(torch.cat([part.indices for part in parts]), batch.indices)


@pytest.mark.parametrize(
    ("world", "drop_last", "sizes"),
    [(1, False, [6, 6, 6, 4]), (3, False, [2, 2, 2, 1]), (5, False, [1, 1, 1]), (1, True, [6, 6, 6])],
)
def test_a_short_last_batch(images: ImageFolder, world: int, drop_last: bool, sizes: list[int]) -> None:
    ranks = [data_of(images, rank=rank, world=world, drop_last=drop_last) for rank in range(world)]
    for data in ranks:
        batches = epoch(data)
        assert [len(batch.inputs) for batch in batches] == sizes
        assert data.steps(6) == len(sizes)
    shown = [index for data in ranks for index in indices(epoch(data))]
    assert len(shown) == len(set(shown)) == world * sum(sizes)


@pytest.mark.parametrize(("world", "size"), [(1, 5), (2, 4), (4, 3), (3, 100), (8, 1)])
def test_evaluation_counts_every_image_once(images: ImageFolder, world: int, size: int) -> None:
    (alone,) = data_of(images).evaluation_batches(13)
    shapes, seen = set(), []
    for rank in range(world):
        batches = list(data_of(images, rank=rank, world=world).evaluation_batches(size))
        shapes.add(tuple(len(batch.inputs) for batch in batches))
        for batch in batches:
            assert torch.equal(batch.inputs[batch.valid], alone.inputs[batch.indices[batch.valid]])
            assert torch.equal(batch.targets[batch.valid], alone.targets[batch.indices[batch.valid]])
            seen += batch.indices[batch.valid].tolist()
    assert len(shapes) == 1
    assert seen == list(range(13))


def test_pixels_are_those_of_torchvisions_pipeline(root: Path, images: ImageFolder) -> None:
    theirs = transforms.Compose(
        [
            transforms.Resize(28),
            transforms.CenterCrop(24),
            transforms.PILToTensor(),
            transforms.ConvertImageDtype(torch.float),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    inputs, targets = next(iter(DataLoader(Torchvisions(root / "val", theirs), batch_size=13)))
    (ours,) = data_of(images).evaluation_batches(13)
    level = torch.tensor(IMAGENET_STD)[:, None, None] * 255
    assert ((ours.inputs - inputs).abs() * level).max() <= 1.001
    assert torch.equal(ours.targets, targets)


def test_the_recipes_of_table_1_run(images: ImageFolder) -> None:
    for name in ("B1", "B1-paper", "B2", "B2-paper", "B3", "B3-paper"):
        settings = recipe(name).settings
        data = ImageFolderData.for_recipe(images, settings, CPU, workers=0)
        batch = next(data.batches(data.epoch_plan(0, 0), 6))
        assert batch.inputs.shape == (6, 3, 224, 224)
        assert batch.inputs.isfinite().all()
        if settings.mixup:
            assert batch.targets.shape == (6, 3)
            torch.testing.assert_close(batch.targets.sum(1), torch.ones(6))
        else:
            assert torch.equal(batch.targets, data.labels[batch.indices])


def test_erased_places_differ_from_the_plain_batch_inside_their_boxes_only(images: ImageFolder) -> None:
    plain = epoch(data_of(images))
    erased = epoch(data_of(images, Augmentation(size=24, evaluation_resize=28, random_erasing=1.0)))
    for one, other in zip(plain, erased, strict=True):
        changed = (one.inputs != other.inputs).any(1)
        share = changed.float().mean((1, 2))
        assert ((share > 0.01) & (share < 0.4)).all()


def test_ranks_mix_with_choices_of_their_own(images: ImageFolder) -> None:
    ranks = [epoch(data_of(images, mixup=0.8, rank=rank, world=2)) for rank in range(2)]
    shares = [{share for batch in rank for share in batch.targets.unique().tolist()} - {0.0, 1.0} for rank in ranks]
    assert all(shares)
    assert not shares[0] & shares[1]


def test_the_global_generators_stay_as_they_are(rich: ImageFolderData, images: ImageFolder) -> None:
    def states() -> tuple[object, ...]:
        return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()

    before = states()
    epoch(rich, 5)
    epoch(data_of(images, RICH, mixup=0.8), 5)
    list(rich.evaluation_batches(5))
    assert states() == before


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_file_is_named(root: Path, tmp_path: Path, workers: int) -> None:
    copy = generate(tmp_path / "images", Request(classes=2, train=4, test=2, scale=0.1))
    images = load("generated", copy, cache=tmp_path / "cache")
    broken = Path(images.test.path(1))
    broken.write_bytes(broken.read_bytes()[:200])
    data = data_of(images, workers=workers)
    with pytest.raises(MissingInput, match=f"{broken} cannot be read as an image"):
        list(data.evaluation_batches(1))
    assert len(epoch(data, size=2)) == 2  # the rest can go on
    data.close()


def test_workers_end_and_come_back(images: ImageFolder) -> None:
    before = {process.pid for process in multiprocessing.active_children()}
    data = data_of(images, workers=2)
    batches = data.batches(data.epoch_plan(0, 0), 6)
    next(batches)
    started = [process for process in multiprocessing.active_children() if process.pid not in before]
    assert len(started) == 2
    batches.close()
    data.close()
    assert not [process for process in started if process.is_alive()]
    assert {process.pid for process in multiprocessing.active_children()} == before
    assert len(epoch(data)) == 4
    data.close()


def test_example_shows_two_training_images(images: ImageFolder) -> None:
    example: Tensor = data_of(images).example()
    assert example.shape == (2, 3, 24, 24)
    assert not torch.equal(example[0], example[1])


def test_wrong_ranks_are_told(images: ImageFolder) -> None:
    with pytest.raises(UsageError, match="rank 2 of 2"):
        data_of(images, rank=2, world=2)
    with pytest.raises(UsageError, match="batch of 2 for 3 shards"):
        epoch(data_of(images, world=3), size=2)


def test_processes_of_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    all_of_them = cores()
    assert 1 <= all_of_them <= (os.cpu_count() or 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(2 * all_of_them))
    assert cores() == 1
