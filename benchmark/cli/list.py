"""`list`: suites, cells, methods, models, recipes, profiles, data and pending parts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence

from benchmark.cli import requests
from benchmark.cli.output import print_rows


def main(arguments: requests.List) -> int:
    """Print one kind of entry. Return the exit code."""
    rows = _KINDS[arguments.what](arguments)
    columns = _COLUMNS.get(arguments.what, ())
    print_rows(rows, arguments.json, columns)
    return 0


def _suites(arguments: requests.List) -> Sequence[Mapping[str, object]]:
    from benchmark.cli.planning import suites_of

    return [
        {
            "suite": suite.name,
            "profile": suite.file.profile,
            "rows": len(suite.file.rows),
            "cells": sum(cell.value is not None for cell in suite.cells),
            "repetitions": suite.file.repetitions,
            "title": suite.file.title,
            "file": os.path.relpath(suite.path),
        }
        for suite in suites_of(arguments)
    ]


def _cells(arguments: requests.List) -> Sequence[Mapping[str, object]]:
    from benchmark.cli.planning import suites_of
    from benchmark.plan.experiment import STATIC_METRICS, experiment_of

    rows = []
    for suite in suites_of(arguments):
        profile = suite.profile(suite.file.profile)
        for cell in suite.cells:
            if cell.value is None:
                continue
            measured = cell.metric not in STATIC_METRICS
            variants = suite.variants.get(cell.id, ()) if measured else ()
            made = {each.variant: experiment_of(each, suite.file.profile, profile) for each in (cell, *variants)}
            experiment = made.pop("") if measured else None
            rows.append(
                {
                    "table": cell.table,
                    "group": cell.group or None,
                    "row": cell.row,
                    "column": cell.column,
                    "metric": cell.metric,
                    "value": cell.value,
                    "std": cell.std,
                    "printed": cell.printed,
                    "standing": cell.standing,
                    "experiment": experiment.identity if experiment else None,
                    "variants": {name: other.identity for name, other in made.items() if other} if measured else {},
                    "pending": cell.setting.pending,
                    "suite": suite.name,
                }
            )
    return rows


def _methods(arguments: requests.List) -> Sequence[Mapping[str, object]]:
    from methods.registry import methods

    return [
        {
            "method": entry.name,
            "revision": entry.revision,
            "distance": "yes" if entry.is_distance else "",
            "options": ", ".join(entry.options.model_fields),
            "what": entry.doc,
        }
        for entry in sorted(methods().values(), key=lambda entry: entry.name)
    ]


def _models(arguments: requests.List) -> Sequence[Mapping[str, object]]:
    from benchmark.models.registry import models

    return [{"model": entry.name, "family": entry.family, "file": entry.path.name} for entry in models().values()]


def _recipes(arguments: requests.List) -> Sequence[Mapping[str, object]]:
    from benchmark.paper.recipe import recipes

    return [
        {
            "recipe": name,
            "epochs": entry.settings.epochs,
            "batch": entry.settings.batch,
            "optimizer": entry.settings.optimizer,
            "lr": entry.settings.lr,
            "source": entry.source,
        }
        for name, entry in recipes().items()
    ]


def _profiles(arguments: requests.List) -> Sequence[Mapping[str, object]]:
    from benchmark.paper.suite import profiles

    return [
        {"profile": name, **entry.model_dump(exclude={"doc"}), "what": entry.doc} for name, entry in profiles().items()
    ]


def _data(arguments: requests.List) -> Sequence[Mapping[str, object]]:
    from benchmark.data.inventory import inventory

    rows = [
        {
            "data": entry.name,
            "state": entry.state,
            "where": str(entry.where) if entry.where else None,
            "found": entry.found,
            "fix": entry.fix,
        }
        for entry in inventory(arguments.data_dir)
    ]
    built_in = "generated images; used in smoke runs only, for data sets that are absent"
    return [*rows, {"data": "generated", "state": "built in", "where": None, "found": built_in, "fix": ""}]


def _pending(arguments: requests.List) -> Sequence[Mapping[str, object]]:
    from benchmark.cli.planning import suites_of

    cells: Counter[str] = Counter()
    suites: dict[str, set[str]] = {}
    for suite in suites_of(arguments):
        for cell in suite.cells:
            for marker in cell.setting.pending or ():
                cells[marker] += 1
                suites.setdefault(marker, set()).add(suite.name)
    return [
        {"pending": marker, "cells": count, "suites": ", ".join(sorted(suites[marker]))}
        for marker, count in cells.most_common()
    ]


_KINDS = {
    "suites": _suites,
    "cells": _cells,
    "methods": _methods,
    "models": _models,
    "recipes": _recipes,
    "profiles": _profiles,
    "data": _data,
    "pending": _pending,
}
_COLUMNS = {"cells": ("table", "group", "row", "column", "metric", "printed", "standing", "experiment")}
