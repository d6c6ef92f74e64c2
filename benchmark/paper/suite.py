"""The parts of a suite: settings, rows, columns, profiles, and the cells that they form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from benchmark.machine.shipped import SUITES
from benchmark.paper.datasets import DATA_SETS
from benchmark.paper.tasks import TASKS
from benchmark.paper.yamlfile import Strict, YamlFile
from methods.spec import MethodSpec, named

ProfileName = Literal["paper", "mini", "smoke"]


class Preparation(Strict):
    """The preparation of a test image: its short side is resized, and its centre cropped."""

    interpolation: Literal["bilinear", "bicubic"]
    crop: float = Field(gt=0, le=1, description="side of the crop, as a share of the short side")


class TeacherSpec(Strict):
    """A teacher with given weights. A teacher that a suite only names is trained first."""

    model: str
    weights: str = Field(
        description="a path (relative to the working directory or the project's folder), a URL, torchvision:NAME, "
        "timm:NAME or mmdet:FILE"
    )
    sha256: str | None = Field(
        None, min_length=8, description="hash of the file, at least its first eight digits; given wherever it is known"
    )
    mirror: str | None = Field(
        None, description="another address of the same file, for a server that is down; ARCHIVE.tar#MEMBER is one file"
    )
    published: float | None = Field(None, description="the accuracy that the weights' own source states")
    preparation: Preparation | None = Field(
        None,
        description="of the images that `published` was measured on, if it is not the recipe's",
    )
    source: str = ""


class Setting(Strict):
    """The settings of a cell and its experiment. A row's settings win over its column's, and both over the suite's."""

    task: str | None = Field(None, description=f"one of {', '.join(TASKS)}")
    data: str | None = Field(None, description=f"one of {', '.join(DATA_SETS)}")
    holdout: int | None = Field(None, gt=0, description="number of training images that replace the test images")
    student: str | None = None
    student_weights: str | None = Field(None, description="weights that the student starts from; without it, random")
    student_weights_sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="hash of that file; it enters the identity, or the file's name does if there is no hash",
    )
    teacher: str | TeacherSpec | None = Field(None, description="a model that is trained first, or one with weights")
    inherit: bool | None = Field(
        None, description="true: a detector's neck and heads start with its teacher's weights (FGD)"
    )
    subject: Literal["student", "teacher"] | None = Field(None, description="the network that the number is of")
    method: str | list[object] | dict[str, object] | None = None
    options: dict[str, dict[str, object]] | None = Field(
        None, description="options by method, for all rows that use the method"
    )
    recipe: str | None = None
    precision: Literal["fp32", "tf32", "bf16", "fp16"] | None = None
    metric: str | None = None
    standing: Literal["authors", "cited"] | None = Field(
        None, description="whose number it is: of the paper's authors, or copied by them from another source"
    )
    runs: int | None = Field(None, gt=0, description="number of runs behind the published number, if known")
    epoch: Literal["last", "best", "unknown"] | None = Field(None, description="the epoch whose number is published")
    source: str | None = Field(None, description="where a cited number comes from")
    group: str | None = None
    note: str | None = None
    unstated: str | None = Field(None, description="the parts of the protocol that the source does not state")
    pending: list[str] | None = Field(None, description="parts that do not exist yet: `method maskd`, `task detection`")
    not_verifiable: str | None = Field(None, description="why nobody but the authors can verify the number")


class Layer(Setting):
    """Settings of a suite, a column, a row or a cell, with its variants: other readings of what its source leaves open.

    A variant changes some settings. Variants of the same name in several layers act together, as the settings do.
    """

    variants: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9.-]*$")], Setting] = {}


class Column(Layer):
    """One column of a table."""

    column: str


class Row(Layer):
    """One row of a table. `cells` has its numbers as printed, in the order of the columns, and `-` for no number."""

    row: str
    cells: str | None = None
    by_column: dict[str, Layer] = Field({}, description="settings of single cells, by column; they win over the row's")


class Profile(Strict):
    """The changes that a profile makes to every experiment of a suite."""

    doc: str = ""
    epochs: int | None = Field(None, gt=0)
    batch: int | None = Field(None, gt=0)
    lr: float | None = Field(None, gt=0, description="learning rate, instead of the recipe's")
    train: int | None = Field(None, gt=0, description="balanced subset of the training images")
    test: int | None = Field(None, gt=0, description="balanced subset of the test images")
    subset_seed: int | None = None
    image_size: int | None = Field(None, gt=0, description="side of images from files, instead of 224 pixels")
    short_side: int | None = Field(None, gt=0, description="short side in detection, instead of the recipe's")
    crop: tuple[int, int] | None = Field(None, description="crop in segmentation, instead of the recipe's")
    repetitions: int | None = Field(None, gt=0)


class Figure(Strict):
    """A figure of the paper, and the quantity of the suite's runs that it draws."""

    quantity: Literal["accuracy", "gamma-histogram", "gamma-curve", "feature-saliency", "class-scores"]
    number: str
    row: str | None = Field(None, description="the row whose runs are drawn; all rows if there is none")
    note: str = ""


def figure_number(part: str) -> str:
    """Return the number of the figure that a part belongs to, for example 5 for 5a."""
    return part.rstrip("abcdef")


class SuiteFile(Strict):
    """A manifest as written."""

    suite: str = Field(description="the file's own name, without .yaml")
    title: str
    source: str
    paper: Literal["diffkd", "kdiffusion", "none"] = "none"
    table: str | None = Field(None, description="the table's number as `list cells` prints it")
    note: str = ""
    repeats: str | None = Field(None, description="the suite whose table this one repeats")
    profile: ProfileName = "paper"
    repetitions: int = Field(1, gt=0, description="number of repetitions, declared before the first is run")
    setting: Layer = Layer()
    columns: list[Column] = Field(min_length=1)
    rows: list[Row] = Field(min_length=1)
    expected: list[str] = Field(
        [], description="orderings to test in every column, such as `DiffKD > KD`, of rows without printed numbers"
    )
    profiles: dict[ProfileName, Profile] = {}
    figures: list[Figure] = []


@dataclass(frozen=True)
class Cell:
    """One published number, or one empty place in a table that a run can fill."""

    suite: str
    table: str
    group: str
    row: str
    column: str
    setting: Setting
    printed: str | None  # exactly as the paper prints it; None if it prints nothing
    value: float | None
    std: float | None
    digits: int
    variant: str = ""  # the name of the reading under which it is run; empty for the suite's main one

    @property
    def id(self) -> str:
        """Return the cell's name, which is unique over all suites; that of a variant ends with `@` and its name."""
        return f"{self.main_id}@{self.variant}" if self.variant else self.main_id

    @property
    def main_id(self) -> str:
        """Return the name without that of a variant."""
        return "/".join(part for part in (self.suite, self.group, self.row, self.column) if part)

    @property
    def metric(self) -> str:
        """Return the metric's name in records."""
        return self.setting.metric or "top1"

    @property
    def standing(self) -> str:
        """Return `authors` or `cited`."""
        return self.setting.standing or "authors"

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
    variants: Mapping[str, tuple[Cell, ...]] = field(default_factory=dict, repr=False)  # other readings of cells, by id

    @property
    def readings(self) -> tuple[str, ...]:
        """Return the names of the variants that some cell has."""
        return tuple(dict.fromkeys(cell.variant for cell in self.every_cell if cell.variant))

    @property
    def every_cell(self) -> Iterator[Cell]:
        """Yield the cells, each followed by its variants."""
        for cell in self.cells:
            yield cell
            yield from self.variants.get(cell.id, ())

    @property
    def name(self) -> str:
        """Return the file's name without .yaml."""
        return self.file.suite

    def profile(self, name: ProfileName) -> Profile:
        """Return a profile: its defaults, changed by what this suite sets for it."""
        own = self.file.profiles.get(name)
        changes = own.model_dump(exclude_none=True, exclude_defaults=True) if own else {}
        return profiles()[name].model_copy(update=changes)


def merge(*settings: Setting) -> Setting:
    """Merge settings into one. Later settings win, but `options` are merged by method and `pending` is joined."""
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
    """Load the profiles of suites/profiles.yaml, with the changes that each makes by default."""
    file = YamlFile(SUITES / "profiles.yaml")
    typed = {name: file.typed(Profile, entry, (name,)) for name, entry in file.entries().items()}
    file.check()
    return {name: profile for name, profile in typed.items() if profile is not None}


def ordering_of(text: str) -> tuple[str, str] | None:
    """Return the two rows of `DiffKD > KD`, the better first, or None if the text is not such an ordering."""
    better, sign, worse = (part.strip() for part in text.partition(">"))
    return (better, worse) if sign and better and worse and better != worse else None
