"""Experiments: everything that decides a training outcome except the repetition, its identity, and the plan."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property

from benchmark.errors import UsageError, nearest
from benchmark.models.registry import model
from benchmark.paper.datasets import DATA_SETS, VERSIONS
from benchmark.paper.honoured import CHOICES, REVISIONS
from benchmark.paper.recipe import Recipe, recipe
from benchmark.paper.suite import Cell, Profile, ProfileName, Suite, TeacherSpec
from benchmark.paper.tasks import DEFAULT_TASK, TASKS
from methods.spec import MethodSpec

# Increase it when the canonical form itself changes its meaning. Every identity changes then.
CANONICAL_VERSION = 1
# Metrics that are counted without a run. Those with `side_` are of a method's side networks, not of the student.
STATIC_METRICS = frozenset({"params_m", "macs_g", "side_params_m", "side_macs_m", "side_macs_g"})


@dataclass(frozen=True)
class Data:
    """A data set and the part of it that is used.

    With `holdout`, so many training images are held out and replace the test set. `image_size` is the side of images
    from files in pixels, 224 if None; a profile may make it smaller. `files` is a hash of the files in a user's own
    folder: two folders are two data sets.
    """

    name: str
    train: int | None = None
    test: int | None = None
    subset_seed: int = 0
    holdout: int | None = None
    image_size: int | None = None
    files: str | None = None

    def canonical(self) -> dict[str, object]:
        """Return the settings that differ from the whole data set."""
        whole = Data(self.name)
        changed = {key: value for key, value in vars(self).items() if value != getattr(whole, key)}
        return changed | {"name": VERSIONS.get(self.name, self.name)}


@dataclass(frozen=True)
class Experiment:
    """A full description of a training: data, networks, method, recipe.

    Without a recipe, the experiment only evaluates given weights.
    """

    task: str
    data: Data
    student: str
    method: MethodSpec
    recipe: Recipe | None
    recipe_name: str = ""  # a label only: the settings are in the identity, the name is not
    teacher: Experiment | TeacherSpec | None = None
    student_weights: str | None = None
    student_weights_sha256: str | None = None
    inherit: bool = False  # a dense student's neck and heads start with the teacher's weights if their shapes are equal
    profile: ProfileName = "paper"
    precision: str = "fp32"

    def canonical(self) -> dict[str, object]:
        """Return the form whose hash is the identity. Defaults are left out, so new settings change no identity."""
        form: dict[str, object] = {
            "version": CANONICAL_VERSION,
            "task": self.task,
            "data": self.data.canonical(),
            "student": self.student,
            "method": self.method.canonical(),
            "recipe": self.recipe.canonical() if self.recipe else None,
            "profile": self.profile,
        }
        if self.precision != "fp32":
            form["precision"] = self.precision
        if self.student_weights:
            form["student_weights"] = self.student_weights_sha256 or self.student_weights
        if self.inherit:
            form["inherit"] = True
        if raised := self.raised():
            form["revisions"] = raised
        if isinstance(self.teacher, Experiment):
            form["teacher"] = {"experiment": self.teacher.identity}
        elif self.teacher is not None:
            pinned = self.teacher.sha256 or self.teacher.weights
            form["teacher"] = {"model": self.teacher.model, "weights": pinned}
        return form

    def raised(self) -> dict[str, int]:
        """Return the revisions above 1 of networks, and of the recipe's optimiser, schedule and augmentation.

        A teacher that is trained has them in its own identity.
        """
        networks = [self.student]
        if self.teacher is not None and not isinstance(self.teacher, Experiment):
            networks.append(self.teacher.model)
        found = {f"network {name}": model(name).revision for name in networks}
        if self.recipe is not None:
            chosen = [f"{choice} {getattr(self.recipe, choice)}" for choice in CHOICES]
            found |= {name: REVISIONS.get(name, 1) for name in chosen}
        return {name: revision for name, revision in found.items() if revision > 1}

    def revisions(self) -> dict[str, int]:
        """Return what a record states: the revision of each method, and of networks and choices above 1."""
        return {part["name"]: part["revision"] for part in self.method.canonical()} | self.raised()

    @cached_property
    def identity(self) -> str:
        """Return the identity: sixteen hexadecimal digits."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def teacher_name(self) -> str:
        """Return the teacher's model, or an empty string without a teacher."""
        if self.teacher is None:
            return ""
        return self.teacher.student if isinstance(self.teacher, Experiment) else self.teacher.model

    @property
    def pair(self) -> str:
        """Return `teacher-student`, or the student alone."""
        return f"{self.teacher_name}-{self.student}" if self.teacher is not None else self.student

    @property
    def label(self) -> str:
        """Format the experiment for a terminal: `cifar100/resnet56-resnet20/diffkd`."""
        return f"{self.data.name}/{self.pair}/{self.method.name}"

    def describe(self) -> dict[str, object]:
        """Return every setting with its effective value, for records and `show`."""
        teacher: dict[str, object] | None = None
        if isinstance(self.teacher, Experiment):
            teacher = {"model": self.teacher.student, "experiment": self.teacher.identity}
        elif self.teacher is not None:
            teacher = self.teacher.model_dump(exclude_defaults=True)
        return {
            "task": self.task,
            "data": self.data.canonical(),
            "student": self.student,
            "student_weights": self.student_weights,
            **({"student_weights_sha256": self.student_weights_sha256} if self.student_weights_sha256 else {}),
            **({"inherit": True} if self.inherit else {}),
            "teacher": teacher,
            "method": self.method.resolved(),
            "recipe": {"name": self.recipe_name, **self.recipe.effective()} if self.recipe else None,
            "profile": self.profile,
            "precision": self.precision,
        }


def same(one: Experiment | None, other: Experiment | None) -> bool:
    """Return True if two cells, or a cell and its variant, mean the same experiment.

    Another recipe does not change how given weights are tested, nor a student's how its teacher is trained.
    """
    return one is not None and other is not None and one.identity == other.identity


def experiment_of(
    cell: Cell, profile_name: ProfileName, profile: Profile, stand_in: bool = False, absent: Collection[str] = ()
) -> Experiment | None:
    """Build a cell's experiment; return None if something that it needs is pending or not stated.

    With `stand_in`, generated images replace CIFAR-100. In profile smoke, generated files replace the data sets in
    `absent`.
    """
    setting = cell.setting
    if setting.pending or setting.student is None or setting.recipe is None or setting.data is None:
        return None
    data = _data(setting.data, setting.holdout, profile, stand_in, absent if profile_name == "smoke" else ())
    named = recipe(setting.recipe)

    def trained(model: str, recipe_name: str, method: MethodSpec) -> Experiment:
        return Experiment(
            task=setting.task or DEFAULT_TASK,
            data=data,
            student=model,
            method=method,
            recipe=profiled(recipe(recipe_name).settings, profile),
            recipe_name=recipe_name,
            profile=profile_name,
            precision=setting.precision or "fp32",
        )

    teacher: Experiment | TeacherSpec | None = None
    if isinstance(setting.teacher, str):
        teacher = trained(setting.teacher, named.teacher_recipe or setting.recipe, plain())
    elif setting.teacher is not None:
        teacher = setting.teacher
    if setting.subject == "teacher":
        task = setting.task or DEFAULT_TASK
        return evaluation(teacher, data, profile_name, task) if isinstance(teacher, TeacherSpec) else teacher
    if setting.method is None:
        return None
    method = cell.method()
    assert method is not None
    return replace(
        trained(setting.student, setting.recipe, method),
        teacher=teacher if method.needs_teacher else None,
        student_weights=setting.student_weights,
        student_weights_sha256=setting.student_weights_sha256,
        inherit=bool(setting.inherit) and method.needs_teacher,
    )


def _data(name: str, holdout: int | None, profile: Profile, stand_in: bool, absent: Collection[str]) -> Data:
    asked = DATA_SETS[name]
    replaced = stand_in if asked.layout == "memory" else name in absent
    size = profile.image_size if asked.layout == "image folder" else None
    name = asked.stand_in.name if replaced else name
    return Data(name, profile.train, profile.test, profile.subset_seed or 0, holdout, image_size=size)


def plain() -> MethodSpec:
    """Return the method of the plain student."""
    return MethodSpec.parse("none")


def evaluation(teacher: TeacherSpec, data: Data, profile: ProfileName, task: str = DEFAULT_TASK) -> Experiment:
    """Return the experiment that evaluates given weights on a data set, without training."""
    return Experiment(
        task=task,
        data=data,
        student=teacher.model,
        method=plain(),
        recipe=None,
        teacher=teacher,
        profile=profile,
    )


def profiled(settings: Recipe, profile: Profile) -> Recipe:
    """Return a recipe with a profile's epochs and batch. Batch norm sees the same share of the batch."""
    changed = settings.scaled_to(profile.epochs) if profile.epochs else settings
    if profile.lr:
        changed = changed.model_copy(update={"lr": profile.lr})
    if profile.short_side and settings.augmentation == "detection":
        changed = changed.model_copy(update={"short_sides": (profile.short_side,)})
    if profile.crop and settings.augmentation == "segmentation":
        changed = changed.model_copy(update={"crop": profile.crop})
    if not profile.batch:
        return changed
    whole, part = settings.batch, settings.per_device_batch
    if part and settings.augmentation == "detection":  # a device pads its images to one shape: they stay together
        shrunk: int | None = min(part, profile.batch)
    else:
        shrunk = max(1, profile.batch * part // whole) if part else None
    return changed.model_copy(update={"batch": profile.batch, "per_device_batch": shrunk})


@dataclass(frozen=True)
class Run:
    """An experiment with a repetition number."""

    experiment: Experiment
    repetition: int

    @property
    def label(self) -> str:
        """Format the run for a terminal."""
        return f"{self.experiment.label} #{self.repetition}"

    @property
    def key(self) -> str:
        """Return the run's name in files and jobs: `0123456789abcdef-r0`."""
        return f"{self.experiment.identity}-r{self.repetition}"

    @property
    def teacher(self) -> Run | None:
        """Return the run that trains this run's teacher. None without a teacher, or if its weights are given."""
        teacher = self.experiment.teacher
        return Run(teacher, 0) if isinstance(teacher, Experiment) else None


@dataclass
class Plan:
    """A plan: the runs, teachers first, each once, and the cells that each experiment serves."""

    runs: list[Run] = field(default_factory=list)
    cells: dict[str, list[Cell]] = field(default_factory=dict)  # by the identity of the experiment
    declared: dict[str, int] = field(default_factory=dict)  # number of repetitions by identity
    left_out: list[tuple[Cell, str]] = field(default_factory=list)  # cells without an experiment, and why

    @property
    def experiments(self) -> dict[str, Experiment]:
        """Return the experiments by identity, in the order of the plan."""
        return {run.experiment.identity: run.experiment for run in self.runs}


@dataclass(frozen=True)
class Selection:
    """A selection of parts of the suites."""

    only: Sequence[str] = ()
    seeds: int | None = None
    profile: ProfileName | None = None
    all_rows: bool = False
    stand_in: bool = False
    absent: frozenset[str] = frozenset()  # data sets made of files that are not available here
    variants: Sequence[str] = ()  # readings that are run instead of the suite's main one

    def cells_of(self, suite: Suite) -> Iterator[Cell]:
        """Yield the cells of a suite that are selected: the main ones, or those of the variants that are named."""
        cells = suite.cells
        if self.variants:
            cells = tuple(cell for cell in suite.every_cell if cell.variant in self.variants)
        return (cell for cell in cells if self.takes(cell) and self.wants(cell))

    def takes(self, cell: Cell) -> bool:
        """Return True if a cell's row, column, method or pair matches a pattern, or no pattern is given.

        A variant is found by its cell's name too.
        """
        setting = cell.setting
        teacher = setting.teacher.model if isinstance(setting.teacher, TeacherSpec) else setting.teacher
        names = [cell.row, cell.column, cell.group, str(setting.student), f"{teacher}-{setting.student}"]
        names += [cell.main_id, cell.id]
        if isinstance(setting.method, str):
            names.append(setting.method)
        elif isinstance(setting.method, dict):
            names += list(setting.method)
        lowered = [name.lower() for name in names]
        patterns = [pattern.lower() for pattern in self.only]
        return not patterns or any(fnmatchcase(name, pattern) for name in lowered for pattern in patterns)

    def wants(self, cell: Cell) -> bool:
        """Return True if a row runs without `--all`: the paper's own rows and the plain student."""
        return self.all_rows or bool(self.only) or cell.standing == "authors" or cell.setting.method == "none"


def make_plan(suites: Iterable[Suite], selection: Selection) -> Plan:
    """Build the plan of several suites, in which each run appears once.

    Raises:
        UsageError: patterns are given and match nothing, or no row has a variant that is asked for.
    """
    plan = Plan()
    suites = list(suites)
    _check_variants(suites, selection)
    wanted: dict[str, tuple[Experiment, int]] = {}
    for suite in suites:
        profile_name = selection.profile or suite.file.profile
        profile = suite.profile(profile_name)
        repetitions = selection.seeds or profile.repetitions or suite.file.repetitions
        main = {cell.id: cell for cell in suite.cells}
        for cell in selection.cells_of(suite):
            if cell.metric in STATIC_METRICS:
                continue
            situation = (profile_name, profile, selection.stand_in, selection.absent)
            experiment = experiment_of(cell, *situation)
            if cell.variant and same(experiment, experiment_of(main[cell.main_id], *situation)):
                continue
            if experiment is None:
                plan.left_out.append((cell, why_left_out(cell)))
                continue
            asked = 1 if cell.setting.subject == "teacher" else repetitions
            known = wanted.get(experiment.identity, (experiment, 0))
            wanted[experiment.identity] = (experiment, max(asked, known[1]))
            plan.cells.setdefault(experiment.identity, []).append(cell)
    if selection.only and not wanted and not plan.left_out:
        raise UsageError(
            f"no row, column, method or pair matches --only {', '.join(map(repr, selection.only))}",
            "python -m benchmark list cells shows the names; a pattern may contain * and ?",
        )
    for experiment, _ in list(wanted.values()):
        teacher = experiment.teacher
        if isinstance(teacher, Experiment) and teacher.identity not in wanted:
            wanted[teacher.identity] = (teacher, 1)
    plan.declared = {identity: repetitions for identity, (_, repetitions) in wanted.items()}
    # All runs of repetition 0 come first, then those of 1, so that an interrupted study has complete tables.
    ordered = sorted(wanted.values(), key=lambda pair: pair[0].teacher is not None)
    most = max((repetitions for _, repetitions in ordered), default=0)
    plan.runs = [Run(experiment, r) for r in range(most) for experiment, count in ordered if r < count]
    return plan


def _check_variants(suites: Sequence[Suite], selection: Selection) -> None:
    """Raise if no row that is selected has a variant that is asked for."""
    cells = [cell for suite in suites for cell in suite.every_cell if cell.variant and selection.takes(cell)]
    known = {cell.variant for cell in cells if selection.wants(cell)}
    for name in selection.variants:
        if name not in known:
            rows = f"these rows of {', '.join(suite.name for suite in suites)}"
            fix = nearest(name, known) if known else "leave --variant out"
            if cited := [cell.row for cell in cells if cell.variant == name]:
                fix = f"rows that the paper copied have it, such as {cited[0]}: add --all, or --only {cited[0]!r}"
            raise UsageError(f"{rows} have no variant {name!r}", fix)


def why_left_out(cell: Cell) -> str:
    """Return why a cell has no experiment."""
    setting = cell.setting
    if setting.pending:
        return f"not available yet: {', '.join(setting.pending)}"
    missing = [name for name in ("student", "recipe", "data", "method") if getattr(setting, name) is None]
    return f"the suite states no {' and no '.join(missing)}"


def ranks_of(experiment: Experiment) -> int:
    """Return the number of processes planned for a run: its batch over what one device sees.

    It is 1 where the task's trainer knows no ranks.
    """
    recipe = experiment.recipe
    if recipe is None or recipe.per_device_batch is None or TASKS[experiment.task].one_process:
        return 1
    return max(1, math.ceil(recipe.batch / recipe.per_device_batch))
