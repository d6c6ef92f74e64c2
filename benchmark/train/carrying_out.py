"""One run of any task, from its experiment to its record: the one place that knows all tasks."""

from __future__ import annotations

import math
from collections.abc import Generator

import torch

from benchmark.data.batches import ClassificationData
from benchmark.errors import CannotServe
from benchmark.models import openmmlab
from benchmark.paper.datasets import IMAGE_FOLDERS
from benchmark.paper.recipe import Recipe
from benchmark.paper.tasks import DENSE, MAIN_METRIC, SHOWN
from benchmark.plan.experiment import Data, Run
from benchmark.records.store import Record
from benchmark.train import honouring
from benchmark.train.classification.task import load_data
from benchmark.train.classification.training import Training, evaluated, skipped
from benchmark.train.settings import Settings


class CarryingOut:
    """Carries out runs, one or several in turns, and keeps the data that they share until it is closed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._data: dict[tuple[Data, Recipe | None], ClassificationData] = {}

    def steps(self, run: Run) -> Generator[None, None, Record]:
        """Train, handing control back after each step; return the record.

        Raises:
            Stopped: asked to stop, the checkpoint is written.
        """
        for words, why in honouring.require(run.experiment).items():
            self.settings.say(f"NOTE: {run.label}: {words} is ignored: {why}")
        if run.experiment.task in DENSE:
            return self._dense(run)
        data = self.settings.ranks.leader_first(lambda: self._data_of(run))
        if run.experiment.recipe is None:
            return evaluated(run, data, self.settings)
        try:
            training = Training(run, data, self.settings)
        except CannotServe as reason:
            return skipped(run, reason, self.settings)
        return (yield from training.advancing())

    def close(self) -> None:
        """Let go of the data."""
        for data in self._data.values():
            data.close()
        self._data = {}

    def _dense(self, run: Run) -> Record:
        # Its packages are optional, and must be prepared before a module that imports them is.
        openmmlab.prepare()
        from benchmark.train.dense.mmengine_loop import carried_out

        try:
            return carried_out(run, self.settings)
        except CannotServe as reason:
            return skipped(run, reason, self.settings)

    def _data_of(self, run: Run) -> ClassificationData:
        key = data, recipe = run.experiment.data, run.experiment.recipe
        if key not in self._data:
            self.close()
            settings = self.settings
            self._data[key] = load_data(
                data,
                settings.source,
                torch.device(settings.device),
                recipe=recipe,
                ranks=settings.ranks,
                generated_dir=settings.store.runs,
                workers=settings.workers,
            )
        return self._data[key]


def from_files(run: Run) -> bool:
    """Whether worker processes decode the images of a run: it does not take turns with others."""
    return run.experiment.data.name in IMAGE_FOLDERS or run.experiment.task in DENSE


def summary(run: Run, record: Record) -> str:
    """Return one line on a finished run."""
    if record.status != "done":
        return f"{run.label}: {record.status}: {record.reason}"
    main = MAIN_METRIC[run.experiment.task]
    accuracy = f"{SHOWN[main]} {record.last.get(main, math.nan):.2f} (best {record.best.get(main, math.nan):.2f})"
    pace = f"{record.images_per_second:,.4g} images/s" if record.images_per_second else "evaluated"
    return f"{run.label}: {accuracy} in {record.seconds:.0f} s, {pace}"
