"""An experiment made again from what a record says of it, without any suite."""

from __future__ import annotations

import types
from collections.abc import Mapping
from pathlib import Path
from typing import Union, get_args, get_origin

from pydantic import ValidationError

from benchmark.errors import UsageError, nearest
from benchmark.paper.datasets import VERSIONS
from benchmark.paper.recipe import Recipe
from benchmark.paper.suite import ProfileName, TeacherSpec
from benchmark.plan.experiment import Data, Experiment
from benchmark.records.facts import DataSettings, ExperimentSettings, RecipeSettings, TeacherSettings
from benchmark.records.store import Record, read_record
from methods.spec import MethodSpec

_PROFILES: Mapping[str, ProfileName] = {"paper": "paper", "mini": "mini", "smoke": "smoke"}
_NAMES = {version: name for name, version in VERSIONS.items()}  # of generated images, by what records call them


def experiment_of(record: Record, path: Path) -> Experiment:
    """Return the experiment of a record that was read from `path`.

    A record of format 1 does not describe a teacher that was trained: the teacher's own record beside it does.

    Raises:
        UsageError: what the record says is not enough, or gives another identity.
    """
    try:
        made = _experiment(record.experiment, path)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: its settings cannot be read: {error}", "was it edited? take the original") from error
    if made.identity != record.identity:
        revisions = record.experiment.revisions
        now = made.revisions()
        why = f"revision {revisions} then, {now} now" if revisions and revisions != now else "a setting changed meaning"
        raise UsageError(
            f"{path}: its settings give the identity {made.identity}, not {record.identity} ({why})",
            "rerun it with the program that its `code` names",
        )
    return made


def _experiment(found: ExperimentSettings, path: Path) -> Experiment:
    if found.profile not in _PROFILES:
        raise UsageError(f"{path}: unknown profile {found.profile!r}", nearest(found.profile, _PROFILES))
    return Experiment(
        task=found.task,
        data=_data(found.data),
        student=found.student,
        method=MethodSpec.parse(found.method),
        recipe=_recipe(found.recipe, path) if found.recipe is not None else None,
        recipe_name=found.recipe.name if found.recipe is not None else "",
        teacher=_teacher(found.teacher, path) if found.teacher is not None else None,
        student_weights=found.student_weights,
        student_weights_sha256=found.student_weights_sha256,
        inherit=found.inherit,
        profile=_PROFILES[found.profile],
        precision=found.precision,
    )


def _data(found: DataSettings) -> Data:
    return Data(**{**found.plain(), "name": _NAMES.get(found.name, found.name)})  # type: ignore[arg-type]


def _recipe(found: RecipeSettings, path: Path) -> Recipe:
    """Return the recipe. Records leave out settings that are switched off, also where the default is switched on."""
    values = dict(found.more)
    for name, setting in Recipe.model_fields.items():
        if name not in values and isinstance(setting.default, int | float) and setting.default:
            values[name] = _off(setting.annotation)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"{path}: recipe {where}: {first['msg']}", "rerun it with the program that wrote it"
        ) from error


def _off(annotation: object) -> object:
    """Return the value that switches a setting of this type off."""
    if get_origin(annotation) in (Union, types.UnionType):
        return None if type(None) in get_args(annotation) else _off(get_args(annotation)[0])
    return annotation() if annotation in (int, float, str, bool) else ()


def _teacher(found: TeacherSettings, path: Path) -> Experiment | TeacherSpec:
    if found.experiment is None:
        return TeacherSpec.model_validate(found.plain())
    if found.described is not None:
        return _experiment(found.described, path)
    for place in path.resolve().parents[1:3]:  # the pair, and all pairs on this data set
        for other in sorted(place.rglob(f"*-{found.experiment}/r0.json")):
            record = read_record(other)
            if isinstance(record, Record):
                return experiment_of(record, other)
    raise UsageError(
        f"{path} has format 1 and does not describe the training of its teacher ({found.experiment})",
        "put the teacher's record into the same folder of results",
    )
