"""The trainer of detection and segmentation runs, through OpenMMLab's packages."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator

import torch

from benchmark.errors import UsageError
from benchmark.models import openmmlab
from benchmark.paper.tasks import TASKS
from benchmark.plan.experiment import Run
from benchmark.records.store import Record
from benchmark.train import precision
from benchmark.train.dense.generators import own_generators
from benchmark.train.dense.mmengine_evaluation import evaluated
from benchmark.train.dense.mmengine_loop import DenseTraining
from benchmark.train.settings import Settings, Stopped
from benchmark.train.trainer import TaskTrainer


class Trainer(TaskTrainer):
    """Trains and evaluates detectors and segmentation networks. MMEngine's Runner keeps control until a run ends."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def train(self, run: Run) -> Generator[None, None, Record]:
        """Train a run without yielding. Return the record.

        Raises:
            CannotServe: the method cannot serve this pair.
            MissingInput: packages, data or weights are not there.
            Stopped: asked to stop, the checkpoint is written.
        """
        yield from ()
        with self._prepared(run):
            return DenseTraining(run, self.settings).run()

    def evaluate(self, run: Run) -> Record:
        """Evaluate given weights on the test images, without training, and return the record.

        Raises:
            MissingInput: packages, data or weights are not there.
        """
        with self._prepared(run):
            return evaluated(run, self.settings)

    def close(self) -> None:
        """Do nothing: no data are kept between runs."""

    @contextlib.contextmanager
    def _prepared(self, run: Run) -> Iterator[None]:
        asked, device = run.experiment.precision, torch.device(self.settings.device)
        _check_precision(asked, device, run.experiment.task)
        if self.settings.stop.is_set():  # building networks takes its time
            raise Stopped
        with openmmlab.scope(TASKS[run.experiment.task].openmmlab), own_generators(asked, device):
            yield


def _check_precision(asked: str, device: torch.device, task: str) -> None:
    if asked != "fp32" and device.type != "cuda":
        why = "" if asked == "tf32" else ": MMEngine has mixed precision for GPUs alone"
        raise UsageError(
            f"{asked} in {task} needs a CUDA device, and this run is on {device.type}{why}",
            "--device cuda, or precision fp32 in the manifest",
        )
    precision.check(asked, device)
