from __future__ import annotations

import pytest
import torch
from detection_pair import detection_setup
from golden_values import pair_of
from test_contract import moment, total
from test_plain_losses import reference
from torch.utils.flop_counter import FlopCounterMode

from benchmark.errors import CannotServe
from methods.diffkd.diffkd import DiffKD
from methods.diffkd.networks import light_predictor
from methods.diffkd.unet import WIDTH, UNet


def randomised(channels: int) -> UNet:
    """No convolution at zero, no norm at one."""
    unet, draw = UNet(channels).double(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in unet.parameters():
            fan_in = max(1, parameter[0].numel()) if parameter.dim() > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=torch.float64) / fan_in**0.5)
    return unet


@pytest.mark.parametrize("size", [(16, 32), (13, 7)])
def test_it_equals_a_plain_one(size: tuple[int, int]) -> None:
    unet = randomised(3)
    noisy = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = unet(noisy, torch.tensor([7, 812]))
        expected = reference("unet").forward(dict(unet.named_parameters()), noisy, [7, 812], WIDTH)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)  # frequencies are float32


@pytest.mark.parametrize("size", [(1, 1), (5, 8), (7, 3)])
def test_any_size_comes_back_and_one_timestep_serves_all(size: tuple[int, int]) -> None:
    unet, noisy = randomised(4), torch.randn(2, 4, *size, dtype=torch.float64)
    with torch.no_grad():
        each, both = unet(noisy, torch.tensor([300, 300])), unet(noisy, 300)
    assert each.shape == noisy.shape
    torch.testing.assert_close(each, both)


def test_it_starts_silent() -> None:
    assert not UNet(4)(torch.randn(1, 4, 8, 8), 3).any()


def test_its_size_is_near_table_12() -> None:
    """13.62 M parameters, and 650.77 against the light one's 132.76 G, at (256, 80, 124)."""
    macs = []
    for network in (UNet(256), light_predictor(256, spatial=True, variant="official")):
        with FlopCounterMode(display=False) as counter:
            network.to("meta")(torch.empty(1, 256, 80, 124, device="meta"), 0)
        macs.append(counter.get_total_flops())
    parameters = sum(parameter.numel() for parameter in UNet(256).parameters())
    assert parameters / 1e6 == pytest.approx(13.62, rel=0.03)
    assert macs[0] / macs[1] == pytest.approx(650.77 / 132.76, rel=0.1)


def test_diffkd_trains_with_it() -> None:
    on = detection_setup()
    method = DiffKD(DiffKD.Options(branches=("feature",), feature_tap="fpn.1", nfe=2, predictor="unet"))
    on.build(method)
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-3)
    values = []
    for _ in range(3):
        loss = total(method.losses(*on.outputs(), on.batch, moment()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(float(loss.detach()))
    assert values[-1] < values[0]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())


def test_vectors_are_refused() -> None:
    shapes = {"logits": (10,)}
    with pytest.raises(CannotServe, match="not of vectors"):
        DiffKD(DiffKD.Options(branches=("logits",), predictor="unet")).build(pair_of(shapes, shapes))
