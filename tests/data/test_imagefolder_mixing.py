"""Mixup and CutMix against timm's own, under the same draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.data.mixup import Mixup
from timm.loss import SoftTargetCrossEntropy
from torch.nn import functional as F

from benchmark.data.mixing import draw_mixing, mixed, mixed_targets


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 1.0), (0.8, 0.0), (0.0, 1.0)])
def test_batches_are_mixed_as_timm_mixes_them(mixup: float, cutmix: float) -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(5, (6,), generator=generator)
    timms = Mixup(mixup_alpha=mixup, cutmix_alpha=cutmix, label_smoothing=0.0, num_classes=5)
    cuts = 0
    for seed in range(30):
        inputs = torch.randn(6, 3, 20, 28, generator=generator)
        np.random.seed(seed)
        theirs, their_targets = timms(inputs.clone(), targets)
        mixing = draw_mixing(seed, mixup, cutmix, 20, 28)
        torch.testing.assert_close(mixed(inputs, mixing), theirs)
        torch.testing.assert_close(mixed_targets(targets, 5, mixing), their_targets)
        cuts += mixing.box is not None
    assert cuts == 30 if not mixup else cuts == 0 if not cutmix else 5 < cuts < 25


def test_smoothing_in_the_loss_is_timms_smoothing_of_the_targets() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, targets = torch.randn(8, 7, generator=generator), torch.randint(7, (8,), generator=generator)
    timms = Mixup(mixup_alpha=0.8, label_smoothing=0.1, num_classes=7)
    np.random.seed(3)
    _, their_targets = timms(torch.zeros(8, 3, 4, 4), targets)
    ours = mixed_targets(targets, 7, draw_mixing(3, 0.8, 0.0, 4, 4))
    found = F.cross_entropy(logits, ours, label_smoothing=0.1)
    torch.testing.assert_close(found, SoftTargetCrossEntropy()(logits, their_targets))


def test_an_odd_batch_is_mixed_and_its_input_left_as_it_was() -> None:
    inputs = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    before = inputs.clone()
    for seed in range(6):
        result = mixed(inputs, draw_mixing(seed, 0.8, 1.0, 8, 8))
        torch.testing.assert_close(result[2], inputs[2])  # the one in the middle is its own partner
        assert torch.equal(inputs, before)
