"""Training recipes, as data in suites/recipes.yaml: the strategies of Table 1 and of the sources that it cites."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from benchmark.errors import UsageError, nearest
from benchmark.machine.plain import Plain
from benchmark.machine.shipped import SUITES
from benchmark.paper.yamlfile import YamlFile

RECIPES = SUITES / "recipes.yaml"


class Recipe(BaseModel):
    """The settings that train a network. Settings at their default stay out of the identity."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(gt=0, description="passes over the training set")
    batch: int = Field(gt=0, description="images a step, over all devices")
    per_device_batch: int | None = Field(
        None, gt=0, description="images whose statistics batch norm computes together; None: the whole batch"
    )
    optimizer: Literal["sgd", "adamw", "rmsproptf"] = "sgd"
    lr: float = Field(gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(0.0, ge=0)
    decay_vectors: bool = Field(True, description="true: weight decay applies to biases and norms too")
    no_decay: tuple[str, ...] = Field(
        (), description="no weight decay for parameters whose names contain one of these: relative_position_bias_table"
    )
    optimizer_eps: float | None = None
    schedule: Literal["step", "cosine", "exponential", "poly", "constant"] = "step"
    milestones: tuple[int, ...] = Field((), description="epochs after which a step schedule multiplies by `decay`")
    decay: float = Field(0.1, gt=0, description="factor of step and exponential schedules")
    decay_epochs: float | None = Field(None, gt=0, description="period of an exponential schedule")
    power: float = Field(0.9, gt=0, description="exponent of a poly schedule")
    min_lr: float = Field(0.0, ge=0)
    warmup_epochs: float = Field(0.0, ge=0)
    warmup_lr: float = Field(0.0, ge=0)
    after_warmup: bool = Field(
        False, description="true: exponential and cosine schedules begin when the warm-up ends, not at epoch 0"
    )
    iterations: int | None = Field(None, gt=0, description="length in steps, if the source states steps")
    clip_grad: float | None = Field(None, gt=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    ema: float | None = Field(None, gt=0, lt=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    drop_path: float = Field(0.0, ge=0, lt=1)
    augmentation: Literal["crop-flip", "inception", "detection", "segmentation"] = "crop-flip"
    short_sides: tuple[int, ...] = Field(
        (), description="short sides of images in detection, one drawn for each image; none: as the task's own pipeline"
    )
    crop: tuple[int, int] | None = Field(None, description="height and width of training crops in segmentation")
    evaluate_steps: int | None = Field(
        None, gt=0, description="steps between two evaluations; None: as usual for the task"
    )
    interpolation: Literal["bilinear", "bicubic"] = Field("bilinear", description="of crops and in evaluation")
    randaugment: str | None = Field(None, description="timm's configuration string")
    randaugment_operations: Literal["timm", "sota"] = Field(
        "timm", description="timm's fifteen, or with the four that image_classification_sota adds"
    )
    random_erasing: float = Field(0.0, ge=0, le=1)
    color_jitter: float | None = Field(None, ge=0)
    mixup: float = Field(0.0, ge=0)
    cutmix: float = Field(0.0, ge=0)

    def scaled_to(self, epochs: int) -> Recipe:
        """Return the recipe for another number of epochs, with milestones and warm-up scaled in proportion.

        `iterations` and `evaluate_steps` are dropped: they count steps over the whole training set.
        """
        ratio = epochs / self.epochs
        milestones = tuple(dict.fromkeys(round(milestone * ratio) for milestone in self.milestones))
        return self.model_copy(
            update={
                "epochs": epochs,
                "iterations": None,
                "evaluate_steps": None,
                "milestones": tuple(m for m in milestones if 0 < m < epochs),
                "warmup_epochs": self.warmup_epochs * ratio,
                "decay_epochs": self.decay_epochs * ratio if self.decay_epochs else None,
            }
        )

    def canonical(self) -> dict[str, object]:
        """Return the settings that differ from the defaults, for the identity."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def effective(self) -> dict[str, object]:
        """Return every setting that has an effect, defaults included. Settings that are switched off are left out."""
        return {key: value for key, value in self.model_dump(mode="json").items() if value or value is False}


class _Description(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    note: str = ""
    teacher_recipe: str | None = Field(None, description="recipe of a teacher that is trained first; None: this recipe")
    ignored: dict[str, str] = Field(
        {}, description="settings that the source states but that have no effect here, with the reason"
    )


class NamedRecipe(_Description):
    """A recipe with its source, and with notes on what the source leaves open."""

    settings: Recipe


@cache
def recipes(path: Path = RECIPES) -> dict[str, NamedRecipe]:
    """Load every recipe by name. An entry may name another as its `base` and change some of its settings."""
    file = YamlFile(path)
    found: dict[str, NamedRecipe] = {}
    for name, entry in file.entries().items():
        if not isinstance(entry, dict) or not isinstance(settings := entry.get("settings", {}), dict):
            file.complain((name, "settings"), f"the recipe {name} needs `settings`, a mapping of keys to values")
            continue
        rest = {key: value for key, value in entry.items() if key not in ("base", "settings")}
        inherited: dict[str, Plain] = {}
        ignored: dict[str, str] = {}
        if "base" in entry:
            base = str(entry["base"])
            if base not in found:
                file.complain((name, "base"), f"there is no recipe {base!r} above this one; {nearest(base, found)}")
                continue
            inherited = found[base].settings.model_dump(mode="json")
            ignored = found[base].ignored
        settled = file.typed(Recipe, inherited | settings, (name, "settings"))
        described = file.typed(_Description, rest, (name,))
        if settled is None or described is None:
            continue
        for unset in described.ignored.keys() - settled.canonical().keys():
            file.complain((name, "ignored", unset), f"{name} ignores {unset!r}, which it does not set")
        description = described.model_dump() | {"ignored": ignored | described.ignored}
        found[name] = NamedRecipe(settings=settled, **description)
    file.check()
    return found


def recipe(name: str) -> NamedRecipe:
    """Return the recipe with this name.

    Raises:
        UsageError: there is none. The error names the closest recipe.
    """
    known = recipes()
    if name not in known:
        raise UsageError(f"unknown recipe {name!r}", nearest(name, known))
    return known[name]
