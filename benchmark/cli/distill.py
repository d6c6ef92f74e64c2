"""`distill`: any two networks of torchvision, timm or this project, on any folder of images."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

import yaml

from benchmark.cli import requests
from benchmark.cli.planning import without_output
from benchmark.data.locate import DataSource
from benchmark.errors import UsageError
from benchmark.machine.devices import pick_device
from benchmark.models.registry import model
from benchmark.paper.datasets import USER_FOLDER
from benchmark.paper.recipe import recipe
from benchmark.paper.suite import Profile, TeacherSpec
from benchmark.plan.experiment import Data, Experiment, Plan, Run, plain, profiled
from benchmark.records.store import Store
from methods.spec import MethodSpec

if TYPE_CHECKING:
    from benchmark.machine.ranks import Ranks


def main(arguments: requests.Distill) -> int:
    """Show the taps, train the teacher if it has no weights, distil, and export. Return the exit code."""
    from benchmark.machine.devices import local_device
    from benchmark.machine.ranks import joined

    device = local_device(pick_device(arguments.device))
    with joined(device) as ranks, without_output(not ranks.leads):
        return _distill(arguments, device, ranks)


def _distill(arguments: requests.Distill, device: str, ranks: Ranks) -> int:
    from benchmark.launch.local import Local
    from benchmark.launch.progress import reporting
    from benchmark.train.settings import Request, Settings

    wanted = ranks.leader_first(lambda: asked(arguments))
    plan = plan_of(wanted)
    _show_taps(wanted)
    settings = Settings(
        store=store_of(arguments.out),
        device=device,
        threads=arguments.threads,
        asked={"device": arguments.device},
        request=Request.of(plan, sys.argv[1:]),
        source=DataSource(USER_FOLDER, arguments.data),
        checkpoint_seconds=arguments.checkpoint_seconds,
        workers=arguments.workers,
        ranks=ranks,
    )
    with reporting(settings, len(plan.runs)) as reported:
        outcome = Local(reported).execute(plan)
    if not ranks.leads:
        return outcome.exit_code
    for run, reason in outcome.failed:
        print(f"FAILED {run.label}: {reason}", file=sys.stderr)
    if outcome.stopped:
        print("stopped; the same command resumes from the checkpoint", file=sys.stderr)
        return 130
    return outcome.exit_code or _finish(plan.runs[-1], settings.store, arguments.out)


@dataclass(frozen=True)
class Wanted:
    """The pair of networks and their experiment."""

    student: str
    teacher: str
    teacher_weights: str | None
    experiment: Experiment


def asked(arguments: requests.Distill) -> Wanted:
    """Parse the command line into a pair and its experiment.

    Raises:
        UsageError: a name, an option or a recipe is wrong.
    """
    student = _named(arguments.student, arguments.student_taps)
    teacher = _named(arguments.teacher, arguments.teacher_taps)
    weights = arguments.teacher_weights
    if weights is None and arguments.teacher.startswith("timm:") and "." in arguments.teacher:
        weights = arguments.teacher  # the part after the dot is a tag, which names weights
    changes = Profile(epochs=arguments.epochs, batch=arguments.batch, lr=arguments.lr)
    # A recipe's per-device batch reproduces what batch norm saw on a paper's eight devices: no reason for it here.
    settings = profiled(recipe(arguments.recipe).settings.model_copy(update={"per_device_batch": None}), changes)
    data = Data(USER_FOLDER, image_size=arguments.image_size, files=_files(arguments.data))
    store = store_of(arguments.out)
    given: Experiment | TeacherSpec
    if weights is not None:
        place, sha256 = _content(weights, store)
        given = TeacherSpec(model=teacher, weights=place, sha256=sha256)
    else:
        given = Experiment("classification", data, teacher, plain(), settings, arguments.recipe, profile="mini")
    start, start_sha256 = _content(arguments.student_weights, store) if arguments.student_weights else (None, None)
    experiment = Experiment(
        task="classification",
        data=data,
        student=student,
        method=MethodSpec.parse(_method(arguments.method)),
        recipe=settings,
        recipe_name=arguments.recipe,
        teacher=given,
        student_weights=start,
        student_weights_sha256=start_sha256,
        profile="mini",
        precision=arguments.precision,
    )
    return Wanted(student, teacher, weights, experiment)


def plan_of(wanted: Wanted) -> Plan:
    """Return a plan of the teacher, if it must be trained, and then the student."""
    given = wanted.experiment.teacher
    runs = [Run(given, 0)] if isinstance(given, Experiment) else []
    return Plan(runs=[*runs, Run(wanted.experiment, 0)])


def _named(name: str, taps: str | None) -> str:
    whole = f"{name}[{taps}]" if taps else name
    model(whole)  # raises now if the name is wrong, before anything is read or trained
    return whole


def _method(text: str) -> object:
    """Parse `diffkd`, or with options `diffkd: {latent: 256}`."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(
            f"--method {text!r} is not valid YAML", "--method diffkd, or --method 'diffkd: {latent: 256}'"
        ) from error


def _content(weights: str, store: Store) -> tuple[str, str | None]:
    """Return given weights as a suite names them, and the SHA-256 of their file, which enters the identity.

    The hash is None for a library's weights: their name is in the identity, and first use records their hash.
    """
    from benchmark.train.weights import is_named, weights_file

    if is_named(weights):
        return weights, None
    place = url2pathname(urlsplit(weights).path) if weights.startswith("file:") else weights
    return place, weights_file(place, store).sha256


def store_of(out: Path) -> Store:
    """Return the store of one student: the folder `NAME.work` beside the student `NAME.pt`."""
    work = out.parent / f"{out.stem}.work"
    return Store(work / "results", work / "runs")


def _files(folder: Path) -> str:
    from benchmark.data.image_index import load

    found = load(USER_FOLDER, folder).identity
    return f"{str(found['train_files_sha256'])[:16]}-{str(found['val_files_sha256'])[:16]}"


def _show_taps(wanted: Wanted) -> None:
    import torch

    from benchmark.machine.streams import initialising
    from benchmark.models.taps import Network

    side = wanted.experiment.data.image_size or 224
    for who, name in (("student", wanted.student), ("teacher", wanted.teacher)):
        entry = model(name)
        with initialising("shown", 0):
            network = entry.build(2, image_size=side)
        adapter = entry.adapter(network)
        shapes = Network(network, adapter, tuple(adapter.taps)).shapes(torch.zeros(2, 3, side, side))
        print(f"taps of the {who} {name} (change them with --{who}-taps ROLE=MODULE,...):")
        for role, shape in shapes.items():
            tap = adapter.taps[role]
            module = f"{tap.module or 'the network'}{' (input)' if tap.at == 'input' else ''}"
            size = "classes" if role == "logits" else "x".join(map(str, shape))
            print(f"  {role:16} {size:16} {module}")


def _finish(run: Run, store: Store, out: Path) -> int:
    from benchmark.train.export import student_of, write_student

    record = store.read(run)
    assert record is not None
    if record.status != "done":
        print(f"{run.label}: {record.status}: {record.reason}", file=sys.stderr)
        return 1
    known = record.teacher.metrics if record.teacher is not None else {}
    teacher = f", its teacher {known['top1']:.2f}" if "top1" in known else ""
    print(f"top-1 {record.last['top1']:.2f} (best {record.best['top1']:.2f}){teacher}")
    for path in write_student(student_of(record, store.paths(run).student), out):
        print(f"written to {path}")
    return 0
