from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.data import generated
from benchmark.data.augment import CIFAR_MEAN, CIFAR_STD
from benchmark.data.cifar import Dataset, Split, balanced, load
from benchmark.data.locate import DataSource, resolve
from benchmark.errors import BenchmarkError, MissingInput, UsageError
from benchmark.paper.datasets import GENERATED_VERSION

STAND_IN = DataSource("generated")


@pytest.fixture(scope="module")
def official(cifar100_dir: Path) -> DataSource:
    return resolve("cifar100", cifar100_dir, allow_download=False, allow_generated=False)


@pytest.fixture(scope="module")
def whole(official: DataSource) -> Dataset:
    return load(official, None, None, subset_seed=0)


def counts(split: Split) -> torch.Tensor:
    return torch.bincount(split.labels, minlength=100)


def rows(split: Split) -> set[bytes]:
    return {image.tobytes() for image in split.images.numpy()}


def test_the_official_set(whole: Dataset) -> None:
    assert whole.train.images.shape == (50_000, 3, 32, 32)
    assert whole.test.images.shape == (10_000, 3, 32, 32)
    assert whole.train.images.dtype == torch.uint8
    assert whole.train.labels.dtype == torch.int64
    assert counts(whole.train).tolist() == [500] * 100
    assert counts(whole.test).tolist() == [100] * 100
    assert (whole.classes, whole.name, whole.generated) == (100, "cifar100", False)
    assert whole.identity["train"] == "16019d7e3df5f24257cddd939b257f8d"


def test_images_and_labels_are_those_that_torchvision_reads(whole: Dataset, cifar100_dir: Path) -> None:
    from torchvision.datasets import CIFAR100

    reference = CIFAR100(str(cifar100_dir), train=False)
    assert whole.test.labels.tolist() == reference.targets
    assert list(whole.class_names) == reference.classes
    assert np.array_equal(whole.test.images.permute(0, 2, 3, 1).numpy(), reference.data)


def test_the_normalisation_constants_are_those_of_the_training_images(whole: Dataset) -> None:
    levels = torch.arange(256, dtype=torch.float64) / 255
    for channel in range(3):
        share = torch.bincount(whole.train.images[:, channel].flatten(), minlength=256) / (50_000 * 1024)
        mean = (share * levels).sum()
        assert abs(mean - CIFAR_MEAN[channel]) < 3e-4
        assert abs((share * (levels - mean) ** 2).sum().sqrt() - CIFAR_STD[channel]) < 3e-4


def test_a_holdout_of_the_official_set(official: DataSource) -> None:
    split = load(official, None, None, subset_seed=1, holdout=5_000)
    assert counts(split.train).tolist() == [450] * 100
    assert counts(split.test).tolist() == [50] * 100


def test_a_holdout_is_taken_from_the_training_images_and_nowhere_else() -> None:
    whole = load(STAND_IN, None, None, subset_seed=1)  # no image of this set appears twice
    split = load(STAND_IN, None, None, subset_seed=1, holdout=1_000)
    assert rows(split.train).isdisjoint(rows(split.test))
    assert rows(split.train) | rows(split.test) == rows(whole.train)
    assert counts(split.test).tolist() == [10] * 100
    small = load(STAND_IN, 500, 200, subset_seed=1, holdout=1_000)
    assert rows(small.train) < rows(split.train)
    assert rows(small.test) < rows(split.test)


def test_a_file_that_changed_after_it_was_found_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").write_bytes(b"something else")
    with pytest.raises(MissingInput, match="not the official file"):
        load(DataSource("cifar100", tmp_path, {"train": "0" * 32, "test": "0" * 32}), None, None, subset_seed=0)


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 3_000), more=st.integers(0, 500), seed=st.integers(0, 2**32))
def test_subsets_are_balanced_nested_sorted_and_repeatable(size: int, more: int, seed: int) -> None:
    labels = np.random.default_rng(7).permutation(np.arange(3_500) % 100)
    chosen = balanced(labels, size, seed)
    in_class = np.bincount(labels[chosen], minlength=100)
    assert len(chosen) == size
    assert in_class.max() - in_class.min() <= 1
    assert (np.diff(chosen) > 0).all()
    assert np.array_equal(chosen, balanced(labels, size, seed))
    assert np.isin(chosen, balanced(labels, size + more, seed)).all()


def test_subsets_differ_by_seed_and_are_the_same_on_every_machine() -> None:
    labels = np.arange(3_000) % 100
    assert not np.array_equal(balanced(labels, 150, 0), balanced(labels, 150, 1))
    assert balanced(labels, 5, seed=0).tolist() == [1379, 1434, 1607, 1678, 2238]


def test_a_subset_of_the_stand_in() -> None:
    data = load(STAND_IN, 250, 100, subset_seed=3)
    assert (len(data.train), len(data.test), data.generated, data.name) == (250, 100, True, "generated")
    assert sorted(set(counts(data.train).tolist())) == [2, 3]
    assert counts(data.test).tolist() == [1] * 100
    assert data.identity == {
        "name": "generated",
        "version": GENERATED_VERSION,
        "sha256": generated.SHA256,
        "subset_train": 250,
        "subset_test": 100,
        "holdout": 0,
        "seed": 3,
    }


def test_what_chose_nothing_is_not_part_of_the_identity() -> None:
    whole = load(STAND_IN, None, None, subset_seed=0)
    assert whole.identity == load(STAND_IN, 10_000, 2_000, subset_seed=9).identity
    assert whole.identity != load(STAND_IN, None, None, subset_seed=0, holdout=100).identity


@pytest.mark.parametrize("size", [0, -1, 10_001])
def test_a_subset_that_cannot_be(size: int) -> None:
    with pytest.raises(UsageError, match=rf"subset of {size} from 10000"):
        load(STAND_IN, size, None, subset_seed=0)


@pytest.mark.parametrize("holdout", [-1, 10_000])
def test_a_holdout_that_cannot_be(holdout: int) -> None:
    with pytest.raises(UsageError, match="cannot hold out"):
        load(STAND_IN, None, None, subset_seed=0, holdout=holdout)


def test_other_generated_images_than_expected_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "SHA256", "0" * 64)
    with pytest.raises(BenchmarkError, match="generated-v1 came out as sha256"):
        load(STAND_IN, None, None, subset_seed=0)


def test_a_split_moves_to_a_device() -> None:
    split = load(STAND_IN, 100, 100, subset_seed=0).train.to("meta")
    assert {split.images.device.type, split.labels.device.type} == {"meta"}
