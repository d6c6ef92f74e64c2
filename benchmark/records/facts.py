"""The parts of a record, each field with its meaning. Parts keep what they do not know, so no record loses a word."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from benchmark.plan.experiment import Experiment


class Part(BaseModel):
    """A part of a record."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="allow", frozen=True, ser_json_inf_nan="constants", protected_namespaces=()
    )

    def plain(self) -> dict[str, object]:
        """Return what the record's file has of this part, as plain data."""
        return self.model_dump(mode="json", exclude_unset=True)

    @property
    def more(self) -> dict[str, object]:
        """Return the values whose names are not declared here."""
        return dict(self.model_extra or {})


class DataSettings(Part):
    """The data set that an experiment asks for, and the part of it. Other fields are at their defaults."""

    name: str = ""
    train: int | None = Field(None, description="training images, if not all")
    test: int | None = Field(None, description="test images, if not all")
    subset_seed: int = 0
    holdout: int | None = Field(None, description="training images that replace the test images")
    image_size: int | None = Field(None, description="of images from files, if not 224")
    files: str | None = Field(None, description="hash of the names in a user's own folder")


class TeacherSettings(Part):
    """The teacher of an experiment: trained by another one, or given weights."""

    model: str = ""
    experiment: str | None = Field(None, description="identity of the experiment that trains it")
    described: ExperimentSettings | None = Field(None, description="that experiment in full; format 1 has none")
    weights: str | None = Field(None, description="file, address or library's name of given weights")
    sha256: str | None = Field(None, description="of the given file's bytes, if the suite states it")
    mirror: str | None = Field(None, description="another address of the same file")
    published: float | None = Field(None, description="main metric that the weights' source states")
    preparation: dict[str, object] | None = Field(None, description="of the images that it was measured on")
    source: str = ""


class RecipeSettings(Part):
    """The recipe in force: its name, and every setting that is not switched off."""

    name: str = ""


class ExperimentSettings(Part):
    """Every setting of an experiment, with its effective value."""

    task: str = ""
    data: DataSettings = DataSettings()
    student: str = ""
    student_weights: str | None = Field(None, description="what the student starts from; fresh weights if None")
    student_weights_sha256: str | None = None
    inherit: bool = Field(False, description="a dense student starts with its teacher's neck and heads")
    teacher: TeacherSettings | None = None
    method: dict[str, dict[str, object]] = Field({}, description="options of each method of the sum, resolved")
    revisions: dict[str, int] = Field({}, description="of each method, and others above 1; format 1 has none")
    recipe: RecipeSettings | None = Field(None, description="None where given weights were evaluated")
    profile: str = "paper"
    precision: str = "fp32"

    @classmethod
    def of(cls, experiment: Experiment) -> ExperimentSettings:
        """Return the settings of an experiment, and of the one that trains its teacher."""
        found = cls.model_validate(experiment.describe())
        teacher = found.teacher
        if isinstance(experiment.teacher, Experiment) and teacher is not None:
            teacher = teacher.model_copy(update={"described": cls.of(experiment.teacher)})
        return cls.model_validate(
            {**found.plain(), "revisions": experiment.revisions(), "teacher": teacher and teacher.plain()}
        )


class ImagesUsed(Part):
    """The images that a run used: md5s of files, the generator's version, sizes of subsets."""

    name: str | None = None
    subset_train: int | None = None
    subset_test: int | None = None
    classes: int | None = None


class TeacherFound(Part):
    """The teacher that a run used; further fields are its measured metrics, in percent.

    Those with `as_published_` are of test images prepared as for its published figure, the others as the recipe does.
    """

    weights_sha256: str | None = Field(None, description="of its tensors")
    stand_in: str | None = Field(None, description="what replaced its weights in a smoke run")

    @property
    def metrics(self) -> dict[str, float]:
        """Return the teacher's measured metrics."""
        return {name: float(value) for name, value in self.more.items() if isinstance(value, int | float)}


class Asked(Part):
    """The user's wishes of the machine."""

    device: str = ""
    threads: int | None = None
    compile: str = ""
    pack: int | str = 1
    precision: str = "fp32"


class Effective(Part):
    """How the run was computed."""

    device: str = ""
    threads: int | None = None
    precision: str | None = None
    deterministic: bool | None = None
    step: str = Field("", description="eager or compiled")
    cuda_graphs: bool = False
    batch: int | None = Field(None, description="images of an optimiser step")
    per_device_batch: int | None = Field(None, description="images that a batch norm sees")
    processes: int = 1
    shards_a_step: int = 1
    not_in_student: list[str] = Field([], description="trained parts that the exported student does not have")
    ignored: dict[str, str] = Field({}, description="settings of the recipe without effect, and why")
    stand_ins: list[str] = Field([], description="what replaced weights or data in a smoke run")
    mmcv_ops: str = Field("", description="which operators a dense run used")


class Code(Part):
    """The program that wrote the record."""

    commit: str | None = None
    dirty: bool | None = Field(None, description="True if files that change results differed from the commit")
    source_sha256: str = Field("", description="hash of the files that a training uses")
    extra_sha256: str | None = Field(None, description="hash of a user's own methods and networks")


class Hardware(Part):
    """The machine."""

    cpu: str = ""
    cores: int | None = None
    instructions: str = Field("", description="the processor's largest instruction set that torch uses")
    gpu: str | None = None
    host_os: str = ""

    @property
    def accelerator(self) -> str:
        """Return the name of the GPU, or else of the processor."""
        return self.gpu or self.cpu


class Requested(Part):
    """Why the run was made."""

    command: list[str] = Field([], description="as it was typed, without the program")
    cells: list[str] = Field([], description="ids of the cells that the run serves, at most MOST_CELLS")
    cells_in_all: int = 0
    declared: int | None = Field(None, description="repetitions that were declared before the run")
    suites_sha256: str = Field("", description="hash of all suites and rules as they were then")


class Attempt(Part):
    """One start of the run: the first, or one after an interruption."""

    started: str = Field("", description="local time, ISO 8601")
    step: int = Field(0, description="optimiser steps that earlier attempts had done")
    seconds: float | None = Field(None, description="of this attempt, up to its last checkpoint")
    commit: str | None = None
    source_sha256: str = ""
    cpu: str = ""
    threads: int | None = None
    packages_sha256: str = Field("", description="hash of the packages' versions")


class StudentCost(Part):
    """The cost of the student that was trained, without side networks."""

    params: int = 0
    macs: int | None = Field(None, description="multiply-adds of one image")
    convention: str = Field("", description="how they were counted: `python -m benchmark verify` explains it")
    image: str = Field("", description="C x H x W")


MOST_CELLS = 12
MOST_ATTEMPTS = 16  # a record has at most 12 kB: the first ones and the last ones are kept
