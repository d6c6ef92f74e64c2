"""The exponential moving average of a student's weights, by timm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.models.taps import Network

if TYPE_CHECKING:
    from torch import Tensor


class MovingAverage:
    """A moving average of the student's weights. It is what is evaluated and exported if a recipe asks for it.

    Running statistics are averaged as weights are, as timm's own training does.
    """

    def __init__(self, student: Network, decay: float) -> None:
        from timm.utils.model_ema import ModelEmaV3  # slow to import, and most recipes do without

        self._model = ModelEmaV3(student, decay=decay)
        self._model.requires_grad_(False)

    @property
    def student(self) -> Network:
        """Return the averaged student, which has its own taps."""
        network: Network = self._model.module
        return network

    def update(self, student: Network) -> None:
        """Update the average with the student's weights after one step."""
        self._model.update(student)

    def state(self) -> dict[str, Tensor]:
        """Return the averaged weights for a checkpoint."""
        return dict(self.student.state_dict())

    def load(self, state: dict[str, Tensor]) -> None:
        """Load the averaged weights from a checkpoint."""
        self.student.load_state_dict(state)
