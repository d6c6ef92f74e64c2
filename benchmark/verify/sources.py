"""Check that every setting of suites and recipes has the value that its source states, or a reason for another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from benchmark.errors import UsageError, nearest
from benchmark.machine.shipped import SUITES
from benchmark.paper.fitting import honoured_by
from benchmark.paper.manifest import load_all
from benchmark.paper.recipe import NamedRecipe, recipes
from benchmark.paper.sources import Settings, Sourced, load_sources, names, shown
from benchmark.paper.suite import Cell, Suite, TeacherSpec
from benchmark.paper.tasks import DEFAULT_TASK
from benchmark.paper.yamlfile import Place, YamlFile
from benchmark.verify.findings import Findings, SourcesHeld
from methods.spec import MethodSpec

FIX = "set it as its source does, or give the fact a reason: `differs: why ours has another value`"

_FIELDS = ("student", "student_weights", "inherit", "recipe", "epoch")  # what facts may name beside a cell's options
_TASKS = {"detection": ("detection", "coco2017"), "segmentation": ("segmentation", "cityscapes")}  # by augmentation
_IMAGES = {"crop-flip": (DEFAULT_TASK, "cifar100"), "inception": (DEFAULT_TASK, "imagenet")}

STANDINGS = ("uncovered", "unsourced", "differing", "held")  # the worst first


@dataclass(frozen=True)
class Target:
    """One thing that has settings: a cell, or a recipe."""

    name: str  # table9/KD/..., recipes/A1
    owner: str  # the suite's or the recipe's name
    settings: Mapping[str, object]  # those that must be covered, by name
    others: Mapping[str, object]  # those that a fact may name too
    path: Path
    layers: tuple[Place, ...]  # where its settings may be written in that file, in the order in which they win

    def __getitem__(self, setting: str) -> object:
        return self.settings[setting] if setting in self.settings else self.others[setting]

    def stated(self, setting: str) -> str:
        """Format the line that sets a setting, with its value."""
        file, parts = _file(self.path), tuple(setting.split("."))
        keys: tuple[Place, ...] = (("method", *parts), ("options", *parts), parts)
        written = [(*layer, *key) for key in keys for layer in self.layers if file.has((*layer, *key))]
        method = [(*layer, "method") for layer in self.layers if file.has((*layer, "method"))]
        line = file.line((written or method or self.layers)[0])
        return f"{shown(self.path, line)} has {self[setting]}{'' if written else ', the default'}"


def check(folder: Path = SUITES) -> SourcesHeld:
    """Hold all suites and recipes of a folder to the sources beside them.

    Raises:
        UsageError: a suite, a recipe or a file of sources cannot be read.
    """
    _file.cache_clear()
    sources, found, problems = load_sources(folder), SourcesHeld(), dict[str, None]()
    targets = [*_recipes(folder / "recipes.yaml"), *(t for suite in load_all(folder) for t in _cells(suite))]
    standing: dict[tuple[str, str], str] = {}  # by a target's name and setting
    for sourced in sources.facts:
        fact = sourced.fact
        if fact.differs:
            said = f"{fact.key} {fact.value} ({sourced.origin}): {fact.differs}"
            found.unsettable += [f"{place}: {said}" for place in fact.about]
        problems |= dict.fromkeys(_unknown({place: [] for place in fact.about} | fact.holds, targets, sourced.where))
        for target, setting in _matches(fact.holds, targets):
            _improve(standing, target, setting, "differing" if fact.differs else "held")
            if wrong := _contradiction(sourced, target, setting):
                problems[wrong] = None
    for entry, where in sources.unsourced:
        problems |= dict.fromkeys(_unknown(entry.holds, targets, where))
        for target, setting in _matches(entry.holds, targets):
            _improve(standing, target, setting, "unsourced")
    worst: dict[str, str] = {}  # equal settings of a suite count once, by the cell that stands worst
    for target in targets:
        for setting, value in target.settings.items():
            of, stands = f"{target.owner}: {setting} {value}", standing.get((target.name, setting), "uncovered")
            worst[of] = min(worst.get(of, "held"), stands, key=STANDINGS.index)
    found.facts, found.problems = len(sources.facts), list(problems)
    found.held, found.differing, found.unsourced = (
        sum(stands == kind for stands in worst.values()) for kind in ("held", "differing", "unsourced")
    )
    found.uncovered = sorted(of for of, stands in worst.items() if stands == "uncovered")
    return found


def add_sources(findings: Findings) -> None:
    """Add the outcome to the findings. Contradictions, and files that cannot be read, are problems."""
    try:
        findings.sources = check()
    except UsageError as error:
        findings.problems.append(error.message)
    findings.problems += findings.sources.problems


def _improve(standing: dict[tuple[str, str], str], target: Target, setting: str, to: str) -> None:
    now = standing.get((target.name, setting), "uncovered")
    standing[target.name, setting] = max(now, to, key=STANDINGS.index)


def _contradiction(sourced: Sourced, target: Target, setting: str) -> str:
    """Return the problem of one setting with one fact, with both lines; an empty string if there is none."""
    agrees = target[setting] == sourced.expected
    if agrees and sourced.fact.differs:
        said = f"{sourced.where} says that {setting} differs from {sourced.expected} ({sourced.origin})"
        return f"{said}; {target.stated(setting)} too: remove `differs`"
    if agrees or sourced.fact.differs:
        return ""
    return f"{sourced.where} says {setting} {sourced.expected} ({sourced.origin}); {target.stated(setting)}"


def _at(place: str, targets: list[Target]) -> list[Target]:
    return [t for t in targets if fnmatchcase(t.name, place) or fnmatchcase(t.name, f"{place}/*")]


def _matches(holds: Mapping[str, Settings], targets: list[Target]) -> Iterator[tuple[Target, str]]:
    for place, settings in holds.items():
        for target in _at(place, targets):
            for pattern in names(settings):
                known = [*target.settings, *(name for name in target.others if name == pattern)]
                yield from ((target, name) for name in dict.fromkeys(known) if fnmatchcase(name, pattern))


def _unknown(holds: Mapping[str, Settings], targets: list[Target], where: str) -> Iterator[str]:
    """Yield a problem for each place without a row or recipe, and for each setting that none of its rows has."""
    for place, settings in holds.items():
        at = _at(place, targets)
        if not at:
            known = {"/".join(target.name.split("/")[: place.count("/") + 1]) for target in targets}
            yield f"{where}: no row and no recipe is named {place!r}; {nearest(place, known)}"
        for pattern in names(settings) if at else ():
            if not any(_matches({place: pattern}, at)):
                known = {name for target in at for name in (*target.settings, *target.others)}
                yield f"{where}: {place} has no setting {pattern!r}; {nearest(pattern, known)}"


def _recipes(path: Path) -> Iterator[Target]:
    entries, known = _file(path).entries(), recipes(path)
    for name, named in known.items():
        own = named.settings.model_dump(mode="json")
        chain = [name]
        while isinstance(entry := entries[chain[-1]], dict) and "base" in entry:
            chain.append(str(entry["base"]))
        layers = tuple((base, "settings") for base in chain)
        yield Target(f"recipes/{name}", f"recipes/{name}", _active(named), own, path, layers)


def _active(named: NamedRecipe) -> dict[str, object]:
    """Return the settings that have an effect in the task that a recipe is for, and are not switched off."""
    task, data = (_TASKS | _IMAGES)[named.settings.augmentation]
    honoured = honoured_by(task, data).names(named.settings)
    return {name: value for name, value in named.settings.effective().items() if name in honoured}


def _cells(suite: Suite) -> Iterator[Target]:
    file = suite.file
    for cell in suite.cells:
        spec = cell.method()
        group = file.setting.group or ""
        rows = [n for n, row in enumerate(file.rows) if (row.row, row.group or group) == (cell.row, cell.group)]
        columns = [n for n, column in enumerate(file.columns) if column.column == cell.column]
        own: Place = ("rows", rows[0], "by_column", cell.column)
        layers: tuple[Place, ...] = (own, ("rows", rows[0]), ("columns", columns[0]), ("setting",))
        options = dict(_options(spec)) if spec else {}
        yield Target(cell.id, suite.name, options, _others(cell), suite.path, layers)


def _options(spec: MethodSpec) -> Iterator[tuple[str, object]]:
    """Yield every option as `method.option`; those of a distance as `diffkd.feature_distance.mse.weight`."""
    for method, options in spec.resolved().items():
        for option, value in options.items():
            if isinstance(value, dict):
                yield from ((f"{method}.{option}.{name}", inner) for name, inner in _options(MethodSpec.parse(value)))
            else:
                yield f"{method}.{option}", value


def _others(cell: Cell) -> dict[str, object]:
    found = {name: getattr(cell.setting, name) for name in _FIELDS}
    if isinstance(teacher := cell.setting.teacher, TeacherSpec):
        found |= {f"teacher.{name}": value for name, value in teacher.model_dump().items()}
    return found


@cache
def _file(path: Path) -> YamlFile:
    return YamlFile(path)
