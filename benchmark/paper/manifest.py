"""Reading of suite manifests, one YAML file for each table or figure: typed, checked, with every number as a cell."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from benchmark.errors import UsageError, nearest
from benchmark.machine.plain import Plain
from benchmark.machine.plugins import ROOT
from benchmark.machine.shipped import SUITES
from benchmark.models.registry import ModelEntry, models
from benchmark.paper.datasets import DATA_SETS, layout_of
from benchmark.paper.fitting import fitting, misfit
from benchmark.paper.recipe import recipes
from benchmark.paper.suite import (
    Cell,
    Column,
    Figure,
    Layer,
    Profile,
    Row,
    Setting,
    Suite,
    SuiteFile,
    TeacherSpec,
    merge,
    method_of,
    ordering_of,
)
from benchmark.paper.tasks import DEFAULT_TASK, TASKS
from benchmark.paper.variants import Variants, problem_of
from benchmark.paper.yamlfile import Place, YamlFile, yaml_files
from methods.registry import MethodEntry, methods
from methods.spec import MethodSpec, WrongMethod

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# Files of suites/ that are not manifests.
NOT_SUITES = frozenset({"recipes", "profiles", "rules", "claims"})


NUMBER = re.compile(r"^(?P<value>[+-]?\d+(?:\.(?P<decimals>\d+))?)(?:±(?P<std>\d+(?:\.\d+)?))?$")


def load(path: Path) -> Suite:
    """Read and check one manifest.

    Raises:
        UsageError: the file has mistakes. The error lists all, each with its line and the nearest valid name.
    """
    file = YamlFile(path)
    parsed = _parse(file)
    variants = Variants()
    cells = tuple(_cells(parsed, file, variants))
    _check_variants(parsed, variants, file)
    _check_options(parsed, file)
    _check_profiles(parsed, cells, file)
    for message in _lint(parsed, path):
        file.complain(("suite",), message)
    file.check(NAMES_HINT)
    return Suite(parsed, path, cells, variants.of)


PATCHES = 5  # rounds of removing wrong values and inserting text for required ones
NAMES_HINT = "python -m benchmark list models|methods|recipes shows the names that exist"
SCHEMA_HINT = "python -m benchmark show schema prints the keys and values of a manifest"


def _parse(file: YamlFile) -> SuiteFile:
    """Return the typed manifest.

    A mistake is noted in `file`, and the wrong value is patched, so that the rest is checked in the same pass.
    """
    data = copy.deepcopy(file.data)
    if not isinstance(data, dict):
        file.complain((), f"a suite is a mapping of keys to values, not {type(data).__name__}")
        file.check(SCHEMA_HINT)
    for attempt in range(PATCHES):
        try:
            return _typed(data)
        except ValidationError as error:
            for place, problem in _one_a_place(error, file).items():
                if attempt == 0:
                    file.complain(place, _schema_message(problem))
                _patch(data, place, problem["type"] == "missing", file.path.stem)
    # The file cannot be patched into a valid one. Report what was noted so far; the rest is not checked.
    file.check(SCHEMA_HINT)
    raise AssertionError("unreachable")


def _typed(data: object) -> SuiteFile:
    """Parse strictly: "3" and true are not accepted as numbers."""
    return SuiteFile.model_validate_json(json.dumps(data, default=str), strict=True)


def _one_a_place(error: ValidationError, file: YamlFile) -> dict[Place, ErrorDetails]:
    """Return one problem for each place of the file.

    pydantic reports a problem for each type that a value may have. A problem inside the value is kept, and those about
    the type of the value as a whole are dropped.
    """
    found: dict[Place, ErrorDetails] = {}
    for problem in error.errors():
        loc = problem["loc"]
        place = (*file.written(loc[:-1]), loc[-1]) if problem["type"] == "missing" else file.written(loc)
        found.setdefault(place, problem)
    inner = [place for place, problem in found.items() if not problem["type"].endswith("_type")]
    return {
        place: problem
        for place, problem in found.items()
        if place in inner or not any(other[: len(place)] == place for other in inner)
    }


def _patch(data: Plain, place: Place, missing: bool, suite: str) -> None:
    """Remove a wrong value, or insert a text for a missing required one."""
    for part in place[:-1]:
        if isinstance(data, list) and isinstance(part, int):
            data = data[part]
        elif isinstance(data, dict):
            data = data.get(str(part), {})
    key = str(place[-1])
    if isinstance(data, dict) and missing:
        data[key] = suite if place == ("suite",) else "/".join(map(str, place))
    elif isinstance(data, dict):
        data.pop(key, None)


_PARTS: dict[str, type[BaseModel]] = {
    "setting": Layer,
    "rows": Row,
    "by_column": Layer,
    "variants": Setting,
    "columns": Column,
    "profiles": Profile,
    "figures": Figure,
}


# pydantic adds these to the place of a value of type `str | TeacherSpec | list | dict`. They are not keys of the file.
_MEMBERS = frozenset({"str", "TeacherSpec", "list[any]", "dict[str,any]"})


def _schema_message(problem: ErrorDetails) -> str:
    key = str(problem["loc"][-1])
    if problem["type"] == "extra_forbidden":
        inside = [str(part) for part in problem["loc"][:-1]]
        model = next((_PARTS[part] for part in reversed(inside) if part in _PARTS), Setting if inside else SuiteFile)
        return f"unknown key {key!r}; {nearest(key, model.model_fields)}"
    if problem["type"] == "missing":
        return f"the key {key!r} is missing"
    where = ".".join(str(part) for part in problem["loc"] if part not in _MEMBERS)
    return f"{where}: {problem['msg'].lower()} (got {problem['input']!r})"


def _lint(parsed: SuiteFile, path: Path) -> Iterator[str]:
    if parsed.suite != path.stem:
        yield f"`suite` is {parsed.suite!r}, but the file is named {path.name}: both must have the same name"
    if parsed.paper != "none" and parsed.table is None and not parsed.figures:
        yield "a suite of a paper needs `table`, the number of its table"
    rows = {row.row for row in parsed.rows}
    for text in parsed.expected:
        names = ordering_of(text)
        if names is None:
            yield f"expected {text!r} is not an ordering of two rows, such as DiffKD > KD"
        for name in names or ():
            if name not in rows:
                yield f"expected {text!r}: no row {name!r}; {nearest(name, rows)}"
    for figure in parsed.figures:
        if figure.row is not None and figure.row not in rows:
            yield f"figure {figure.number!r}: no row {figure.row!r}; {nearest(figure.row, rows)}"


def _cells(parsed: SuiteFile, file: YamlFile, variants: Variants) -> Iterator[Cell]:
    """Yield the cells in the order of rows, and add their variants to `variants`."""
    seen: set[str] = set()
    for index, row in enumerate(parsed.rows):
        place: Place = ("rows", index)
        printed = (row.cells or "").split()
        if row.cells is not None and len(printed) != len(parsed.columns):
            file.complain((*place, "cells"), f"{len(printed)} cells for {len(parsed.columns)} columns in {row.row!r}")
            continue
        for number, column in enumerate(parsed.columns):
            text = printed[number] if printed else "-"
            layers: dict[Place, Layer] = {
                ("setting",): parsed.setting,
                ("columns", number): column,
                place: row,
                (*place, "by_column", column.column): row.by_column.get(column.column, Layer()),
            }
            setting = merge(*layers.values())
            _check_setting(setting, file, tuple(reversed(layers)))
            cell = _cell(parsed, row, column, setting, text)
            if cell is None:
                file.complain((*place, "cells"), f"{text!r} is not a number such as 71.98 or 72.24±0.24, nor -")
            elif cell.id in seen:
                file.complain(place, f"two cells have the name {cell.id}: change a row, a column or a group")
            else:
                seen.add(cell.id)
                for variant, places in variants.add(cell, layers):
                    _check_setting(variant.setting, file, (*reversed(places), *reversed(layers)))
                yield cell
    columns = {column.column for column in parsed.columns}
    for index, row in enumerate(parsed.rows):
        for name in row.by_column.keys() - columns:
            file.complain(("rows", index, "by_column", name), f"no column {name!r}; {nearest(name, columns)}")


def _cell(parsed: SuiteFile, row: Row, column: Column, setting: Setting, text: str) -> Cell | None:
    match = NUMBER.match(text)
    if match is None and text != "-":
        return None
    group = setting.group or ""
    return Cell(
        suite=parsed.suite,
        table=parsed.table or parsed.suite,
        group=group,
        row=row.row,
        column=column.column,
        setting=setting,
        printed=text if match else None,
        value=float(match["value"]) if match else None,
        std=float(match["std"]) if match and match["std"] else None,
        digits=len(match["decimals"] or "") if match else 0,
    )


def _check_variants(parsed: SuiteFile, variants: Variants, file: YamlFile) -> None:
    for layer, settings in _layers(parsed).items():
        for name, variant in settings.variants.items():
            place = (*layer, "variants", name)
            if problem := problem_of(variant, acts=place in variants.acting):
                file.complain(place, f"the variant {name!r} {problem}")


def _layers(parsed: SuiteFile) -> dict[Place, Layer]:
    """Return the layers of settings that the file has, by their places."""
    found: dict[Place, Layer] = {("setting",): parsed.setting}
    found |= {("columns", index): column for index, column in enumerate(parsed.columns)}
    for index, row in enumerate(parsed.rows):
        found[("rows", index)] = row
        found |= {("rows", index, "by_column", name): own for name, own in row.by_column.items()}
    return found


def _check_setting(setting: Setting, file: YamlFile, layers: tuple[Place, ...]) -> None:
    def complain(key: str, message: str) -> None:
        # Name the line that sets the key. The row's setting wins over the column's, and both over the suite's.
        written = [(*layer, key) for layer in layers if file.has((*layer, key))]
        file.complain(written[0] if written else layers[0], message)

    pending = set(setting.pending or ())
    for marker in sorted(pending):
        if problem := _pending_problem(marker):
            complain("pending", problem)
    if setting.recipe is not None and setting.recipe not in recipes() and f"recipe {setting.recipe}" not in pending:
        complain("recipe", f"unknown recipe {setting.recipe!r}; {nearest(setting.recipe, recipes())}")
    elif setting.recipe in recipes():
        own = recipes()[setting.recipe].teacher_recipe if isinstance(setting.teacher, str) else None
        for trained_by in dict.fromkeys((setting.recipe, own or setting.recipe)):
            if (setting.task or DEFAULT_TASK) in TASKS and (message := _misfit(trained_by, setting)):
                complain("recipe", message)
    if setting.task is not None and setting.task not in TASKS:
        complain("task", f"unknown task {setting.task!r}; {nearest(setting.task, TASKS)}")
    if setting.data is not None and setting.data not in DATA_SETS:
        complain("data", f"unknown data set {setting.data!r}; {nearest(setting.data, DATA_SETS)}")
    teacher = setting.teacher.model if isinstance(setting.teacher, TeacherSpec) else setting.teacher
    for key, name in (("student", setting.student), ("teacher", teacher)):
        if name is not None and name not in models() and f"model {name}" not in pending:
            complain(key, f"unknown model {name!r}; {nearest(name, models())}")
    if isinstance(setting.teacher, TeacherSpec) and (idle := _idle(setting.teacher, setting.data)):
        complain("teacher", idle)
    if setting.method is not None and not any(marker.startswith("method ") for marker in pending):
        try:
            method_of(setting)
        except WrongMethod as error:
            for place, message in error.problems:
                written = [
                    (*layer, key, *place)
                    for key in ("method", "options")
                    for layer in layers
                    if file.has((*layer, key, *place))
                ]
                if written:
                    file.complain(written[0], message)
                else:
                    complain("method", message)


def _idle(teacher: TeacherSpec, data: str | None) -> str:
    """Return which of a teacher's settings would have no effect; an empty string if all have one."""
    if teacher.mirror is not None and "://" not in teacher.weights:
        return f"mirror: weights {teacher.weights!r} are not at an address, so nothing is asked for there; take it out"
    if teacher.preparation is not None and layout_of(data) not in (None, "image folder"):
        return f"preparation: images of {data} are not prepared as it says; take it out"
    return ""


def _misfit(name: str, setting: Setting) -> str:
    """Return the problem of a recipe with a setting's task and data; an empty string if all of it is supported."""
    named, task = recipes()[name], setting.task or DEFAULT_TASK
    problem = misfit(named.settings, named.ignored, task, setting.data)
    return problem and f"recipe {name!r} has {problem}; take one of {fitting(task, setting.data)}"


def _check_options(parsed: SuiteFile, file: YamlFile) -> None:
    """Check all `options`, also those of methods that no row uses: a misspelt method would go unnoticed otherwise."""
    written: dict[Place, Setting] = {}
    for layer, settings in _layers(parsed).items():
        written[layer] = settings
        written |= {(*layer, "variants", name): variant for name, variant in settings.variants.items()}
    pending = {marker for setting in written.values() for marker in setting.pending or ()}
    for layer, setting in written.items():
        for name, options in (setting.options or {}).items():
            if f"method {name}" in pending:
                continue
            try:
                MethodSpec.parse({name: options})
            except WrongMethod as error:
                for place, message in error.problems:
                    file.complain((*layer, "options", *place), message)


def _check_profiles(parsed: SuiteFile, cells: Iterable[Cell], file: YamlFile) -> None:
    """Check for image sizes of a task that no row has: they would have no effect, and go unnoticed otherwise."""
    tasks = sorted({cell.setting.task or DEFAULT_TASK for cell in cells})
    for name, profile in parsed.profiles.items():
        for task, key in ((task.name, task.image_size) for task in TASKS.values()):
            if getattr(profile, key) and tasks and task not in tasks:
                right = " or ".join(TASKS[own].image_size for own in tasks)
                message = f"{key} is the size of images in {task}, and no row is of that task: write {right}"
                file.complain(("profiles", name, key), message)


def _own(entries: Mapping[str, MethodEntry] | Mapping[str, ModelEntry]) -> set[str]:
    """Return the names that this project defines.

    Names from a user's own files are left out: they must not break a suite that marks the same name as pending.
    """
    return {name for name, entry in entries.items() if entry.path.is_relative_to(ROOT)}


def _pending_problem(marker: str) -> str | None:
    kind, _, name = marker.partition(" ")
    existing = {"method": _own(methods()), "model": _own(models()), "recipe": set(recipes())}
    if name in existing.get(kind, ()):
        return f"{marker!r} is marked pending, but it exists: remove the marker"
    kinds = (*existing, "task", "data", "option", "measurement")
    return None if kind in kinds else f"{marker!r} must begin with one of {', '.join(kinds)}"


def suite_path(name: str) -> Path:
    """Return the path of a manifest, given by path or by name.

    `suites/table9.yaml` is found in any working directory: it names a suite that comes with the program.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = {p.stem: p for p in suite_files()}
    if name in known:
        return known[name]
    if path.parent == Path("suites") and path.suffix == ".yaml" and path.stem in known:
        return known[path.stem]
    raise UsageError(f"there is no suite {name!r}, nor a file of that name", nearest(path.stem, known))


def suite_files(folder: Path = SUITES) -> list[Path]:
    """Return every manifest of a folder."""
    return [path for path in yaml_files(folder) if path.stem not in NOT_SUITES]


@cache
def suites_sha256(folder: Path = SUITES) -> str:
    """Return a hash of all suites, recipes, profiles, rules and claims of a folder, as they are now."""
    digest = hashlib.sha256()
    for path in yaml_files(folder):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def companions(folder: Path = SUITES) -> set[Path]:
    """Return the paths of recipes, profiles, rules and claims, which lie beside the manifests."""
    return {path.resolve() for path in yaml_files(folder) if path.stem in NOT_SUITES}


def load_all(folder: Path = SUITES) -> list[Suite]:
    """Load every suite of a folder.

    Raises:
        UsageError: a file has mistakes. The error lists all mistakes of all files.
    """
    found, problems = [], []
    for path in suite_files(folder):
        try:
            found.append(load(path))
        except UsageError as error:
            problems.append(error.message)
    if problems:
        raise UsageError("\n".join(problems), NAMES_HINT)
    return found
