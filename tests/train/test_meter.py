"""The meter: means, histograms, the first step that broke, and its state in a checkpoint."""

from __future__ import annotations

import torch

from benchmark.train.meter import HISTOGRAM_BINS, Meter

CPU = torch.device("cpu")


def add(meter: Meter, values: dict[str, torch.Tensor], tracked: dict[str, torch.Tensor], number: int) -> None:
    meter.number.fill_(number)
    meter.add(values, tracked)


def test_means_of_scalars_and_vectors() -> None:
    meter = Meter(CPU)
    add(meter, {"a": torch.tensor(1.0)}, {"gamma": torch.tensor([0.0, 1.0])}, 0)
    add(meter, {"a": torch.tensor(2.0)}, {"gamma": torch.tensor([1.0, 1.0])}, 1)
    assert meter.means() == {"a": 1.5, "gamma": 0.75}
    assert meter.first_broken() is None


def test_histograms_are_shares_over_the_unit_interval() -> None:
    meter = Meter(CPU)
    add(meter, {"a": torch.tensor(0.0)}, {"gamma": torch.tensor([0.0, 0.02, 0.5, 1.0])}, 0)
    shares = meter.histograms()
    assert len(shares) == HISTOGRAM_BINS
    assert (shares["gamma.bin00"], shares["gamma.bin10"], shares["gamma.bin19"]) == (0.5, 0.25, 0.25)
    assert sum(shares.values()) == 1.0


def test_the_first_broken_step_and_term_are_kept() -> None:
    meter = Meter(CPU)
    bad = torch.tensor(float("nan"))
    for step, (a, b) in enumerate([(1.0, 1.0), (1.0, float("inf")), (float("nan"), 1.0)], start=10):
        add(meter, {"a": torch.tensor(a), "b": torch.tensor(b)}, {}, step)
    assert meter.first_broken() == (11, "b")
    both = Meter(CPU)
    add(both, {"a": bad, "b": bad}, {}, 3)
    assert both.first_broken() == (3, "a")


def test_a_meter_goes_on_from_its_state() -> None:
    whole, first = Meter(CPU), Meter(CPU)
    steps = [({"a": torch.tensor(v)}, {"g": torch.tensor([v, 0.5])}) for v in (0.1, 0.2, 0.7)]
    for number, step in enumerate(steps):
        add(whole, *step, number)
    add(first, *steps[0], 0)
    second = Meter(CPU)
    second.load(first.state())
    for number, step in enumerate(steps[1:], 1):
        add(second, *step, number)
    assert second.means() == whole.means()
    assert second.histograms() == whole.histograms()


def test_a_meter_keeps_its_tensors_when_it_is_reset_or_loaded() -> None:
    meter = Meter(CPU)
    add(meter, {"a": torch.tensor(float("nan"))}, {"g": torch.tensor([0.5, 0.5])}, 4)
    tensors = [meter.state()[key].data_ptr() for key in ("sums", "first_bad")]
    fresh = Meter(CPU).state()
    other = Meter(CPU)
    add(other, {"a": torch.tensor(2.0)}, {"g": torch.tensor([0.0, 0.0])}, 0)
    meter.load(other.state())
    assert (meter.means(), meter.histograms(), meter.first_broken()) == (other.means(), other.histograms(), None)
    meter.load(fresh)
    add(meter, {"a": torch.tensor(1.0)}, {"g": torch.tensor([1.0, 1.0])}, 0)
    assert meter.means() == {"a": 1.0, "g": 1.0}
    assert [meter.state()[key].data_ptr() for key in ("sums", "first_bad")] == tensors


def test_the_share_of_clipped_steps_goes_on_from_a_state_and_from_one_that_has_none() -> None:
    whole, older = Meter(CPU), Meter(CPU)
    add(whole, {"a": torch.tensor(1.0)}, {}, 0)
    assert whole.clipped() == {}
    for clipped in (True, False, False, False):
        whole.add_clip(torch.tensor(clipped))
    assert whole.clipped() == {"clipped": 0.25}
    state = whole.state()
    del state["clips"]  # a checkpoint from before they were counted
    older.load(state)
    assert older.clipped() == {}
    older.load(whole.state())
    older.add_clip(torch.tensor(True))
    assert older.clipped() == {"clipped": 0.4}
    older.reset()
    assert older.clipped() == {}
