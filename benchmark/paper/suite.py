"""What a suite holds: settings, rows, columns, profiles, and the cells that they make."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from benchmark.machine.shipped import SUITES
from benchmark.paper.datasets import DATA_SETS
from benchmark.paper.tasks import TASKS
from benchmark.paper.yamlfile import Strict, YamlFile
from methods.spec import MethodSpec, named

ProfileName = Literal["paper", "mini", "smoke"]


class TeacherSpec(Strict):
    """A teacher whose weights are given. A teacher that is only named is trained by the plan."""

    model: str
    weights: str = Field(
        description="a path (from here or from the project's folder), a URL, or torchvision:NAME, timm:NAME, mmdet:FILE"
    )
    sha256: str | None = Field(
        None, min_length=8, description="of the file; pinned wherever it is known; its first eight digits at least"
    )
    published: float | None = Field(None, description="the accuracy that the weights' own source states")
    source: str = ""


class Setting(Strict):
    """The settings of an experiment and a cell. A row's settings win over its column's, both over the suite's."""

    task: str | None = Field(None, description=f"one of {', '.join(TASKS)}")
    data: str | None = Field(None, description=f"one of {', '.join(DATA_SETS)}")
    holdout: int | None = Field(None, gt=0, description="training images that take the place of the test images")
    student: str | None = None
    student_weights: str | None = Field(None, description="what the student starts from; fresh weights unless given")
    student_weights_sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="of that file; it is the file's identity, else its name is"
    )
    teacher: str | TeacherSpec | None = Field(None, description="a model trained by the plan, or given weights")
    inherit: bool | None = Field(None, description="whether a detector's neck and heads start as its teacher's (FGD)")
    subject: Literal["student", "teacher"] | None = Field(None, description="whose number the cell is")
    method: str | list[object] | dict[str, object] | None = None
    options: dict[str, dict[str, object]] | None = Field(None, description="by method, for all rows that use it")
    recipe: str | None = None
    precision: Literal["fp32", "tf32", "bf16", "fp16"] | None = None
    metric: str | None = None
    standing: Literal["ours", "cited"] | None = None
    runs: int | None = Field(None, gt=0, description="published runs behind the number, where known")
    epoch: Literal["last", "best", "unknown"] | None = Field(None, description="which epoch the source reports")
    source: str | None = Field(None, description="where a cited number comes from")
    group: str | None = None
    note: str | None = None
    unstated: str | None = Field(None, description="what of the protocol the source leaves open")
    pending: list[str] | None = Field(None, description="what is not available yet: `method maskd`, `task detection`")
    not_verifiable: str | None = Field(None, description="why nobody outside can verify the number")


class Column(Setting):
    """One column of a table."""

    column: str


class Row(Setting):
    """One row of a table, with its numbers as printed, in the order of the columns; `-` where none is printed."""

    row: str
    cells: str | None = None


class Rerun(Strict):
    """An independent re-run of a cell: a further reference."""

    row: str
    column: str
    group: str | None = None
    value: float
    std: float | None = None
    runs: int | None = None
    source: str


class Profile(Strict):
    """The changes that a profile makes to every experiment of a suite."""

    doc: str = ""
    epochs: int | None = Field(None, gt=0)
    batch: int | None = Field(None, gt=0)
    lr: float | None = Field(None, gt=0, description="in place of the recipe's")
    train: int | None = Field(None, gt=0, description="balanced subset of the training images")
    test: int | None = Field(None, gt=0, description="balanced subset of the test images")
    subset_seed: int | None = None
    image_size: int | None = Field(None, gt=0, description="of images from files, in place of 224")
    short_side: int | None = Field(None, gt=0, description="of images in detection, in place of the recipe's")
    crop: tuple[int, int] | None = Field(None, description="of images in segmentation, in place of the recipe's")
    repetitions: int | None = Field(None, gt=0)


class Figure(Strict):
    """The quantity that a figure draws from the suite's runs."""

    quantity: Literal["accuracy", "gamma-histogram", "gamma-curve", "feature-saliency", "class-scores"]
    number: str
    note: str = ""


class SuiteFile(Strict):
    """A manifest as written."""

    suite: str = Field(description="the file's own name, without .yaml")
    title: str
    source: str
    paper: Literal["diffkd", "kdiffusion", "none"] = "none"
    table: str | None = Field(None, description="the table's number as `list cells` prints it")
    note: str = ""
    repeats: str | None = Field(None, description="the suite of which this table is a copy")
    profile: ProfileName = "paper"
    repetitions: int = Field(1, gt=0, description="declared before any is run")
    setting: Setting = Setting()
    columns: list[Column] = Field(min_length=1)
    rows: list[Row] = Field(min_length=1)
    reruns: list[Rerun] = []
    expected: list[str] = Field(
        [], description="orderings that the study tests, in every column: `DiffKD > KD`; for rows that print no number"
    )
    profiles: dict[ProfileName, Profile] = {}
    figures: list[Figure] = []


@dataclass(frozen=True)
class Cell:
    """One published number, or one place in a table that a run can fill."""

    suite: str
    table: str
    group: str
    row: str
    column: str
    setting: Setting
    printed: str | None  # exactly as the paper has it; None where nothing is printed
    value: float | None
    std: float | None
    digits: int
    reruns: tuple[Rerun, ...] = ()

    @property
    def id(self) -> str:
        """Return the cell's name, which is unique over all suites."""
        return "/".join(part for part in (self.suite, self.group, self.row, self.column) if part)

    @property
    def metric(self) -> str:
        """Return the metric's name in records."""
        return self.setting.metric or "top1"

    @property
    def standing(self) -> str:
        """Return `ours` or `cited`."""
        return self.setting.standing or "ours"

    def method(self) -> MethodSpec | None:
        """Return the cell's method with all options; None if it is pending or the cell is about a teacher."""
        if self.setting.pending or self.setting.subject == "teacher" or self.setting.method is None:
            return None
        return method_of(self.setting)


@dataclass(frozen=True)
class Suite:
    """A checked manifest."""

    file: SuiteFile
    path: Path
    cells: tuple[Cell, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """Return the file's name without .yaml."""
        return self.file.suite

    def profile(self, name: ProfileName) -> Profile:
        """Return the profile's defaults with this suite's own changes applied."""
        own = self.file.profiles.get(name)
        changes = own.model_dump(exclude_none=True, exclude_defaults=True) if own else {}
        return profiles()[name].model_copy(update=changes)


def merge(*settings: Setting) -> Setting:
    """Merge settings into one.

    Later ones win, but `options` are merged for each method and `pending` markers are joined.
    """
    found: dict[str, object] = {}
    options: dict[str, dict[str, object]] = {}
    pending: dict[str, None] = {}
    for setting in settings:
        own = {name: getattr(setting, name) for name in Setting.model_fields}
        for name, values in (own.pop("options") or {}).items():
            options[name] = options.get(name, {}) | values
        pending |= dict.fromkeys(own.pop("pending") or ())
        found |= {name: value for name, value in own.items() if value is not None}
    return Setting(**found, options=options or None, pending=list(pending) or None)


def method_of(setting: Setting) -> MethodSpec:
    """Return a setting's method. Its own options win over those in `options`."""
    shared = setting.options or {}
    return MethodSpec.parse([{name: _joined(shared.get(name), own)} for name, own in named(setting.method)])


def _joined(shared: dict[str, object] | None, own: object) -> object:
    return (shared or {}) | own if isinstance(own, dict) else own


@cache
def profiles() -> dict[str, Profile]:
    """Load the profiles and their default changes."""
    file = YamlFile(SUITES / "profiles.yaml")
    typed = {name: file.typed(Profile, entry, (name,)) for name, entry in file.entries().items()}
    file.check()
    return {name: profile for name, profile in typed.items() if profile is not None}


def ordering_of(text: str) -> tuple[str, str] | None:
    """Return the two rows of `DiffKD > KD`, or None if the text is no ordering of two rows."""
    better, sign, worse = (part.strip() for part in text.partition(">"))
    return (better, worse) if sign and better and worse and better != worse else None
