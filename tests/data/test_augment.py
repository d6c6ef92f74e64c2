from __future__ import annotations

from pathlib import Path

import torch
import torchvision.transforms.functional as reference
from torch import Tensor
from torchvision.transforms import v2

from benchmark.data.augment import CIFAR_MEAN, CIFAR_STD, augmented, crop_flip, normalise, plan_epoch
from benchmark.data.cifar import Split, load
from benchmark.data.locate import resolve

mean, std = torch.tensor(CIFAR_MEAN), torch.tensor(CIFAR_STD)


def every_choice() -> tuple[Tensor, Tensor]:
    """All 81 offsets, each with and without a flip."""
    offsets = torch.cartesian_prod(torch.arange(9), torch.arange(9)).repeat(2, 1)
    return offsets, torch.arange(162) >= 81


def one_by_one(images: Tensor, offsets: Tensor, flips: Tensor) -> Tensor:
    """torchvision's transforms on PIL images, as the published recipes apply them."""
    made = []
    for image, (top, left), flip in zip(images, offsets.tolist(), flips.tolist(), strict=True):
        picture = reference.crop(reference.pad(reference.to_pil_image(image), 4), top, left, 32, 32)
        picture = reference.hflip(picture) if flip else picture
        made.append(reference.normalize(reference.to_tensor(picture), CIFAR_MEAN, CIFAR_STD))
    return torch.stack(made)


def noise(count: int) -> Tensor:
    return torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_every_offset_and_flip_is_torchvisions_to_the_bit() -> None:
    offsets, flips = every_choice()
    images = noise(162)
    assert torch.equal(crop_flip(images, offsets, flips, mean, std), one_by_one(images, offsets, flips))


def test_official_images_too(cifar100_dir: Path) -> None:
    offsets, flips = every_choice()
    source = resolve("cifar100", cifar100_dir, allow_download=False, allow_generated=False)
    images = load(source, 162, 100, subset_seed=0).train.images
    assert torch.equal(crop_flip(images, offsets, flips, mean, std), one_by_one(images, offsets, flips))


def test_the_second_version_of_the_transforms_agrees_to_1e_6() -> None:
    # v2 multiplies by 1 / 255 where v1 divides, so it may differ in the last bit.
    images = noise(8)
    transform = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(CIFAR_MEAN, CIFAR_STD)])
    expected = torch.stack([transform(image) for image in images])
    torch.testing.assert_close(normalise(images, mean, std), expected, rtol=0, atol=1e-6)


def test_normalising_is_torchvisions_to_the_bit_for_every_level() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    expected = reference.normalize(reference.to_tensor(reference.to_pil_image(images[0])), CIFAR_MEAN, CIFAR_STD)
    assert torch.equal(normalise(images, mean, std)[0], expected)


def test_the_images_given_are_left_as_they_were() -> None:
    images = noise(4)
    before = images.clone()
    crop_flip(images, torch.zeros(4, 2, dtype=torch.int64), torch.ones(4, dtype=torch.bool), mean, std)
    normalise(images, mean, std)
    assert torch.equal(images, before)


def test_a_plan_is_a_permutation_with_even_choices() -> None:
    plan = plan_epoch(20_000, order_seed=1, augment_seed=2)
    assert torch.equal(plan.order.sort().values, torch.arange(20_000))
    for axis in range(2):
        seen = torch.bincount(plan.offsets[:, axis], minlength=9)
        assert len(seen) == 9
        assert (seen - 20_000 / 9).abs().max() < 250  # over five standard deviations
    assert abs(plan.flips.float().mean().item() - 0.5) < 0.02
    joint = torch.corrcoef(torch.stack([plan.offsets[:, 0], plan.offsets[:, 1], plan.flips]).float())
    assert (joint - torch.eye(3)).abs().max() < 0.04


def test_a_plan_follows_its_two_seeds_and_nothing_else() -> None:
    plan = plan_epoch(500, order_seed=1, augment_seed=2)
    torch.rand(3)
    before = torch.random.get_rng_state()
    again = plan_epoch(500, order_seed=1, augment_seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(plan.order, again.order)
    assert torch.equal(plan.offsets, again.offsets)
    assert torch.equal(plan.flips, again.flips)
    reordered = plan_epoch(500, order_seed=3, augment_seed=2)
    assert not torch.equal(plan.order, reordered.order)
    assert torch.equal(plan.offsets, reordered.offsets)
    other = plan_epoch(500, order_seed=1, augment_seed=3)
    assert torch.equal(plan.order, other.order)
    assert not torch.equal(plan.offsets, other.offsets)
    assert not torch.equal(plan.flips, other.flips)


def test_a_part_of_a_plan_holds_the_same_draws() -> None:
    plan = plan_epoch(10, order_seed=0, augment_seed=0)
    parts = [plan[start : start + 4] for start in (0, 4, 8)]
    assert [len(part) for part in parts] == [4, 4, 2]
    assert torch.equal(torch.cat([part.order for part in parts]), plan.order)
    assert torch.equal(torch.cat([part.offsets for part in parts]), plan.offsets)
    assert torch.equal(torch.cat([part.flips for part in parts]), plan.flips)


def test_augmented_gives_each_drawn_image_its_own_choice_and_label() -> None:
    split = Split(noise(20), torch.arange(20))
    batch = plan_epoch(20, order_seed=5, augment_seed=6)[4:9]
    inputs, targets = augmented(split, batch, mean, std)
    assert torch.equal(targets, batch.order)
    assert torch.equal(inputs, one_by_one(split.images[batch.order], batch.offsets, batch.flips))


def test_a_plan_moves_to_a_device() -> None:
    plan = plan_epoch(4, order_seed=0, augment_seed=0).to("meta")
    assert {plan.order.device.type, plan.offsets.device.type, plan.flips.device.type} == {"meta"}
