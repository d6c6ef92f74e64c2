"""For tests of the dense tasks: a safe import of MMEngine, and networks that are built once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from built import built_once

from benchmark.models.openmmlab import import_formatter

import_formatter()  # before any module here imports MMEngine: test processes start together, on a new machine too


@pytest.fixture(scope="session", autouse=True)
def networks_are_built_once() -> Iterator[None]:
    """A detector's weights take seconds to be drawn, more than many a test needs beside."""
    with built_once():
        yield
