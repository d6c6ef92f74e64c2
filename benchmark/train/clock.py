"""The seconds of a run: of all its attempts together, and of its training alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Counts a run's seconds from its creation, and its training's between `training` and `pausing`.

    Fetching a batch is a part of training. Evaluations, checkpoints and the turns of other runs are not.
    """

    def __init__(self) -> None:
        self.seconds = self.training_seconds = 0.0
        self._trains = False
        self._since = time.monotonic()

    def restart(self, seconds: float, training_seconds: float) -> None:
        """Resume from the seconds of earlier attempts. What passed in this one so far stays counted."""
        self.seconds += seconds
        self.training_seconds += training_seconds

    def tick(self) -> None:
        """Add the time since the last call."""
        now = time.monotonic()
        self.seconds += now - self._since
        if self._trains:
            self.training_seconds += now - self._since
        self._since = now

    def training(self) -> None:
        """Count what follows as training."""
        self.tick()
        self._trains = True

    def ended(self) -> None:
        """Count nothing that follows as training."""
        self.tick()
        self._trains = False

    @contextmanager
    def pausing(self) -> Iterator[None]:
        """Count nothing inside as training."""
        trained = self._trains
        self.ended()
        try:
            yield
        finally:
            self.tick()
            self._trains = trained
