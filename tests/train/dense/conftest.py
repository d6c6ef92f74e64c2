"""What tests of detectors and segmentors share."""

from __future__ import annotations

import pytest

from benchmark.train.engine import telemetry


@pytest.fixture
def without_gradient_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the telemetry that costs a backward pass for each term: of runs of a few steps, it is most of the time.

    That it changes nothing else is held by `test_telemetry_is_in_the_curves_and_changes_nothing_else`.
    """
    monkeypatch.setattr(telemetry, "gradients", lambda *given: {})
