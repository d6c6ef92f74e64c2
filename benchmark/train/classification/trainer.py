"""The trainer of classification runs, and the data that they share."""

from __future__ import annotations

import time
from collections.abc import Generator

import torch

from benchmark.data.batches import ClassificationData
from benchmark.paper.recipe import Recipe
from benchmark.plan.experiment import Data, Run
from benchmark.records.store import Record
from benchmark.train import precision
from benchmark.train.classification.classification_task import load_data
from benchmark.train.classification.training import Training
from benchmark.train.engine.teacher import measured, teacher_of
from benchmark.train.first_use import held
from benchmark.train.outcome import asked_and_found, rounded
from benchmark.train.settings import Settings
from benchmark.train.trainer import TaskTrainer


class Trainer(TaskTrainer):
    """Trains and evaluates classifiers. It keeps the latest data: runs follow each other by the data that they use."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._data: dict[tuple[Data, Recipe | None], ClassificationData] = {}

    def train(self, run: Run) -> Generator[None, None, Record]:
        """Train a run, yielding after each step. Return the record.

        Raises:
            CannotServe: the method cannot serve this pair.
            Stopped: asked to stop, the checkpoint is written.
        """
        return Training(run, self._data_of(run), self.settings).advancing()

    def evaluate(self, run: Run) -> Record:
        """Evaluate given weights on the test images, without training, and return the record."""
        data, settings = self._data_of(run), self.settings
        began = time.monotonic()
        teacher = settings.ranks.leader_first(lambda: teacher_of(run.experiment, data, settings.store))
        files = {"teacher": teacher.origin} if teacher.origin is not None else {}
        held(run, files, settings.store, settings.ranks, teacher.weights_sha256)
        frozen = teacher.frozen().to(settings.device)
        metrics = measured(teacher, frozen, data, settings.store, precision.EVALUATED, settings.ranks)
        record = Record(
            status="done",
            last=rounded(metrics),
            best=rounded(metrics),
            weights_sha256=teacher.weights_sha256,
            teacher={"stand_in": teacher.source} if teacher.stands_in else None,
            weight_files=files,
            data=dict(data.identity),
            effective={"device": settings.device, "threads": torch.get_num_threads(), "precision": precision.EVALUATED},
            seconds=round(time.monotonic() - began, 2),
            **asked_and_found(run, settings),
        )
        if settings.ranks.leads:
            settings.store.write(run, record)
        return record

    def close(self) -> None:
        """Release the data."""
        for data in self._data.values():
            data.close()
        self._data = {}

    def _data_of(self, run: Run) -> ClassificationData:
        return self.settings.ranks.leader_first(lambda: self._loaded(run))

    def _loaded(self, run: Run) -> ClassificationData:
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
