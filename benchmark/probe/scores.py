"""Class scores of a finished run's student, denoised student and teacher on single test images: Figure 6."""

from __future__ import annotations

from contextlib import closing

import torch
from torch import Tensor

from benchmark.errors import UsageError
from benchmark.machine.streams import generator
from benchmark.plan.experiment import Run
from benchmark.probe.finished import restore
from benchmark.records.looked import DENOISED, STUDENT, TEACHER, Scored
from benchmark.train.classification.assembly import assembled
from benchmark.train.classification.classification_task import load_data
from benchmark.train.precision import arithmetic
from benchmark.train.settings import Settings
from methods.base import LOGITS, Method, Moment
from methods.diffkd.diffkd import Branch, DiffKD

TOP = 3  # classes of an image that are shown, as in the paper


def denoises(method: Method) -> Branch | None:
    """Return the branch of DiffKD that denoises class scores, also inside a sum of methods; None if there is none."""
    found = [module for module in method.modules() if isinstance(module, DiffKD)]
    return next((branch for diffkd in found for _, branch in diffkd.each_branch() if branch.role == LOGITS), None)


def scored(run: Run, settings: Settings, images: int) -> list[Scored]:
    """Return the first test images, each with the scores of the three classes that the teacher rates highest.

    Raises:
        MissingInput: the run's weights, its side networks or its data are not there.
        UsageError: the run's method does not denoise class scores.
    """
    experiment, device = run.experiment, torch.device(settings.device)
    data = load_data(
        experiment.data, settings.source, device, recipe=experiment.recipe, generated_dir=settings.store.runs, workers=0
    )
    with closing(data), arithmetic(experiment.precision):
        parts = assembled(run, data, settings.store, device)
        student, method = parts.distiller.student, parts.distiller.method
        restore(run, settings.store, student.network, method)
        parts.distiller.eval()
        branch = denoises(method)
        if branch is None or parts.frozen is None:
            raise UsageError(
                f"{run.label} does not denoise class scores", "name a suite whose DiffKD has the branch `logits`"
            )
        batch = next(iter(data.evaluation_batches()))
        inputs = batch.inputs[:images]
        zero = torch.zeros((), device=device)
        noise = generator("method-noise", run.repetition, experiment.identity, device=device)
        with torch.no_grad():
            own, taught = student(inputs)[LOGITS], parts.frozen(inputs)[LOGITS]
            denoised = branch(own, taught, Moment(zero, zero, noise, step=zero)).student.flatten(1)
        scores = {STUDENT: own, DENOISED: denoised, TEACHER: taught}
        shares = {name: logits.double().softmax(dim=1).cpu() for name, logits in scores.items()}
    names = data.class_names
    return [_scored(place, int(batch.targets[place]), shares, names) for place in range(len(inputs))]


def _scored(place: int, target: int, shares: dict[str, Tensor], names: tuple[str, ...]) -> Scored:
    def named(label: int) -> str:
        return names[label].replace("_", " ") if names else f"class {label}"

    top = shares[TEACHER][place].topk(TOP).indices
    found = {name: tuple(share[place][top].tolist()) for name, share in shares.items()}
    return Scored(place, named(target), tuple(named(int(label)) for label in top), found)
