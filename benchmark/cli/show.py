"""`show`: print one entry in full."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmark.cli import requests
from benchmark.cli.planning import store_to_read
from benchmark.errors import UsageError

if TYPE_CHECKING:
    from torch import nn


def main(arguments: requests.Show) -> int:
    """Print an entry as YAML or JSON. Return the exit code.

    Raises:
        UsageError: the name is missing, or nothing has it.
    """
    if not arguments.name and arguments.what != "schema":
        raise UsageError(f"show {arguments.what} needs a name", _where_names_are(arguments.what))
    found = _KINDS[arguments.what](arguments)
    if arguments.json or arguments.what == "schema":
        print(json.dumps(found, indent=1, ensure_ascii=False, default=str))
        return 0
    import yaml

    print(yaml.safe_dump(json.loads(json.dumps(found, default=str)), sort_keys=False, allow_unicode=True), end="")
    return 0


def _method(arguments: requests.Show) -> dict[str, object]:
    import ast

    from benchmark.machine.plugins import syntax
    from methods.registry import method

    entry = method(arguments.name)
    nodes = (n for n in syntax(entry.path).body if isinstance(n, ast.ClassDef) and n.name == entry.class_name)
    options = {}
    for name, field in entry.options.model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        options[name] = {"default": field.default, "what": field.description, "source": extra.get("source")}
    return {
        "method": entry.name,
        "revision": entry.revision,
        "file": str(entry.path),
        "what": next((ast.get_docstring(node) for node in nodes), ""),
        "needs a teacher": entry.needs_teacher,
        "serves as a distance": entry.is_distance,
        "options": options,
    }


def _model(arguments: requests.Show) -> dict[str, object]:
    from benchmark.models.counting import parameters
    from benchmark.models.registry import model

    entry = model(arguments.name)
    network = entry.on_meta(100)
    adapter = entry.adapter(network)
    return {
        "model": entry.name,
        "family": entry.family,
        "file": str(entry.path),
        "parameters, 100 classes": parameters(network),
        **_multiply_adds(entry.name, network),
        "taps": {role: f"{tap.at} of {tap.module}" for role, tap in adapter.taps.items()},
    }


def _multiply_adds(name: str, network: nn.Module) -> dict[str, int]:
    """Return the multiply-adds of one image of the network's own size, or of a small one if it takes any size."""
    from benchmark.models import mmdet
    from benchmark.models.counting import macs
    from benchmark.models.library import SIDE, side_of_images

    if name in mmdet.MODELS:
        from benchmark.verify.detectors import SIDES, TESTED_PROPOSALS, stage_macs

        dense, second = stage_macs(network)
        more = {f"multiply-adds of the second stage, {TESTED_PROPOSALS} proposals": second} if second else {}
        return {f"multiply-adds, {SIDES[0]} x {SIDES[1]}": dense, **more}
    side = side_of_images(network, SIDE if ":" in name else 32)
    return {f"multiply-adds, {side} x {side}": macs(network, (1, 3, side, side))}


def _recipe(arguments: requests.Show) -> dict[str, object]:
    from benchmark.paper.recipe import recipe

    return {"recipe": arguments.name, **recipe(arguments.name).model_dump(mode="json")}


def _suite(arguments: requests.Show) -> dict[str, object]:
    from benchmark.paper.manifest import load, suite_path

    return load(suite_path(arguments.name)).file.model_dump(mode="json", exclude_none=True, exclude_defaults=True)


def _experiment(arguments: requests.Show) -> Mapping[str, object]:
    """Find an experiment by the beginning of its identity: in the suites' own profiles, then in profile smoke.

    Smoke experiments are tried both on the real data sets and on generated images, which have another identity.
    """
    from benchmark.judge.protocol import why_not_comparable
    from benchmark.paper.datasets import STAND_INS
    from benchmark.paper.manifest import load_all
    from benchmark.plan.experiment import Selection, make_plan
    from benchmark.records.facts import ExperimentSettings

    as_they_are = Selection(all_rows=True)
    smoke = Selection(all_rows=True, profile="smoke")
    on_generated = Selection(all_rows=True, profile="smoke", stand_in=True, absent=frozenset(STAND_INS))
    suites = load_all()
    matches: dict[str, Mapping[str, object]] = {}
    serves: dict[str, list[str]] = {}
    for selections in ((as_they_are,), (smoke, on_generated)):
        asked = [(suite, selection) for selection in selections for suite in suites]
        asked += [(suite, replace(how, variants=suite.readings)) for suite, how in asked if suite.readings]
        for plan in (make_plan([suite], selection) for suite, selection in asked):
            for identity, experiment in plan.experiments.items():
                if identity.startswith(arguments.name):
                    described = experiment.describe()
                    note = {"note": why} if (why := why_not_comparable(ExperimentSettings.of(experiment))) else {}
                    cells = serves.setdefault(identity, [])
                    cells += [cell.id for cell in plan.cells.get(identity, ())]
                    matches.setdefault(identity, {"identity": identity, **described, **note, "serves": cells})
        if matches:
            break
    return _only(matches, arguments)


def _run(arguments: requests.Show) -> Mapping[str, object]:
    from benchmark.records.store import Record

    matches = {
        f"{record.identity} #{record.repetition}": record.model_dump(mode="json") | {"lacks": record.lacks}
        for record in store_to_read(arguments).all()
        if isinstance(record, Record) and record.identity.startswith(arguments.name)
    }
    return matches if len(matches) > 1 else _only(matches, arguments)


def _only(matches: Mapping[str, Mapping[str, object]], arguments: requests.Show) -> Mapping[str, object]:
    if not matches:
        message = f"no {arguments.what} has an identity that begins with {arguments.name!r}"
        raise UsageError(message, _where_names_are(arguments.what))
    if len(matches) > 1:
        some = ", ".join(list(matches)[:5])
        raise UsageError(f"{len(matches)} identities begin with {arguments.name!r}: {some}", "give more of its digits")
    return next(iter(matches.values()))


def _where_names_are(kind: str) -> str:
    """Return the command that prints the names of a kind of entry."""
    if kind == "experiment":
        return "python -m benchmark list cells prints the identities"
    if kind == "run":
        return "python -m benchmark status SUITE prints the identities"
    return f"python -m benchmark list {kind}s prints the names"


def _schema(arguments: requests.Show) -> dict[str, object]:
    from benchmark.paper.suite import SuiteFile

    return SuiteFile.model_json_schema()


_KINDS = {
    "method": _method,
    "model": _model,
    "recipe": _recipe,
    "suite": _suite,
    "experiment": _experiment,
    "run": _run,
    "schema": _schema,
}
