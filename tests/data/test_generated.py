from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmark.data.augment import CIFAR_MEAN, CIFAR_STD, augmented, normalise, plan_epoch
from benchmark.data.cifar import load
from benchmark.data.generated import SHA256, Generated, generate
from benchmark.data.locate import DataSource


@pytest.fixture(scope="module")
def made() -> Generated:
    return generate()


def test_the_same_images_everywhere(made: Generated) -> None:
    assert made.sha256 == SHA256
    assert generate().sha256 == SHA256


def test_shapes_and_balance(made: Generated) -> None:
    assert made.train_images.shape == (10_000, 3, 32, 32)
    assert made.test_images.shape == (2_000, 3, 32, 32)
    assert made.train_images.dtype == np.uint8
    assert np.bincount(made.train_labels).tolist() == [100] * 100
    assert np.bincount(made.test_labels).tolist() == [20] * 100


def test_no_image_appears_twice(made: Generated) -> None:
    images = np.concatenate([made.train_images, made.test_images])
    assert len({image.tobytes() for image in images}) == 12_000


def test_pixels_are_spread_and_seldom_cut_off(made: Generated) -> None:
    assert made.train_images.std() > 40
    assert np.isin(made.train_images, (0, 255)).mean() < 0.05


def test_class_means_tell_some_classes_apart_but_not_most(made: Generated) -> None:
    train, test = made.train_images.reshape(10_000, -1), made.test_images.reshape(2_000, -1)
    means = np.stack([train[made.train_labels == label].mean(0) for label in range(100)])
    distances = torch.cdist(torch.tensor(test, dtype=torch.float32), torch.tensor(means, dtype=torch.float32))
    accuracy = (distances.argmin(1).numpy() == made.test_labels).mean()
    assert 0.1 < accuracy < 0.3


def test_a_small_network_learns_it_but_not_at_once() -> None:
    data = load(DataSource("generated"), None, None, subset_seed=0)
    mean, std = torch.tensor(CIFAR_MEAN), torch.tensor(CIFAR_STD)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        widths = [(3, 16), (16, 32), (32, 64)]
        layers = [nn.Sequential(nn.Conv2d(i, o, 3, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()) for i, o in widths]
        network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 100))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    plan = plan_epoch(len(data.train), order_seed=0, augment_seed=1)
    for start in range(0, len(plan), 64):
        inputs, targets = augmented(data.train, plan[start : start + 64], mean, std)
        loss = F.cross_entropy(network(inputs), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()
    with torch.no_grad():
        found = network(normalise(data.test.images, mean, std)).argmax(1)
    accuracy = (found == data.test.labels).float().mean().item()
    assert 0.05 < accuracy < 0.5  # chance is 0.01
