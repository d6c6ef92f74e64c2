"""The settings of a recipe that each task, optimiser and schedule supports, as data. Other settings are refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.paper.datasets import IMAGE_FOLDERS
from benchmark.paper.recipe import Recipe, recipes

if TYPE_CHECKING:
    pass

Settings = tuple[str, ...]

CHOICES = ("optimizer", "schedule", "augmentation")
EVERYWHERE = ("epochs", "batch", "per_device_batch", "lr", "weight_decay", "warmup_epochs", "warmup_lr", "clip_grad")

OPTIMIZERS: Mapping[str, Settings] = {  # train/engine/optimizer.py
    "sgd": ("momentum", "nesterov", "decay_vectors"),
    "adamw": ("decay_vectors", "optimizer_eps"),
    "rmsproptf": ("momentum", "decay_vectors", "optimizer_eps"),
}
SCHEDULES: Mapping[str, Settings] = {  # train/engine/schedule.py
    "constant": (),
    "step": ("milestones", "decay"),
    "exponential": ("decay", "decay_epochs", "min_lr"),
    "cosine": ("min_lr",),
    "poly": ("power", "min_lr"),
}
DENSE_OPTIMIZERS: Mapping[str, Settings] = {"sgd": ("momentum",)}  # mmengine_loop.py; decay by its own rules

# Settings that only have a meaning beside another one: that must be on, or off.
BESIDE = {"warmup_lr": ("warmup_epochs", True), "color_jitter": ("randaugment", False)}  # timm's rule: data/decode.py


@dataclass(frozen=True)
class Carried:
    """The settings that one task supports: its own, and those of each choice that it has."""

    name: str
    settings: Settings
    optimizer: Mapping[str, Settings]
    schedule: Mapping[str, Settings]
    augmentation: Mapping[str, Settings]

    def honoured(self, recipe: Recipe) -> Settings:
        """Return the settings that have an effect beside the recipe's choices, in the order of recipes."""
        known = {*CHOICES, *EVERYWHERE, *self.settings}
        for choice in CHOICES:
            allowed, made = getattr(self, choice), getattr(recipe, choice)
            known.update(*([allowed[made]] if made in allowed else allowed.values()))
        beside = {name for name, (other, on) in BESIDE.items() if bool(getattr(recipe, other)) is not on}
        return tuple(name for name in Recipe.model_fields if name in known - beside)

    def passed_over(self, recipe: Recipe) -> dict[str, str]:
        """Return, by name, the settings without effect and the choices that the task does not have."""
        honoured = self.honoured(recipe)
        found = {name: f"{name} {getattr(recipe, name)}" for name in recipe.canonical() if name not in honoured}
        for choice in CHOICES:
            if (value := getattr(recipe, choice)) not in getattr(self, choice):
                found[choice] = f"{choice} {value}"
        return found

    def described(self, recipe: Recipe) -> str:
        """Format the settings that the task supports, with its choices in brackets."""
        told = []
        for name in self.honoured(recipe):
            allowed = getattr(self, name) if name in CHOICES else ()
            told.append(f"{name} ({' or '.join(allowed)})" if allowed else name)
        return f"{self.name} honours {', '.join(told)}"


CLASSIFICATION = ("label_smoothing", "ema", "dropout", "drop_path")
MIXED = ("randaugment", "random_erasing", "color_jitter", "mixup", "cutmix")

ON_DEVICE = Carried("classification of images on the device", CLASSIFICATION, OPTIMIZERS, SCHEDULES, {"crop-flip": ()})
IN_FOLDER = Carried("classification of a folder of images", CLASSIFICATION, OPTIMIZERS, SCHEDULES, {"inception": MIXED})
DENSE = {
    "detection": Carried(
        "detection", (), DENSE_OPTIMIZERS, {"step": ("milestones", "decay")}, {"detection": ("short_sides",)}
    ),
    "segmentation": Carried(
        "segmentation",
        ("iterations", "evaluate_steps"),
        DENSE_OPTIMIZERS,
        {"poly": ("power", "min_lr")},
        {"segmentation": ("crop",)},
    ),
}


def carried_by(task: str, data: str | None) -> Carried:
    """Return the settings that a task supports on a data set, by the names in manifests."""
    return DENSE.get(task) or (IN_FOLDER if data in IMAGE_FOLDERS else ON_DEVICE)


def carried_in_part(recipe: Recipe, ignored: Collection[str], task: str, data: str | None) -> str:
    """Return an error text on settings that are neither supported nor ignored; an empty string if there are none."""
    carried = carried_by(task, data)
    wrong = [words for name, words in carried.passed_over(recipe).items() if name not in ignored]
    return f"{', '.join(wrong)}: not carried out; {carried.described(recipe)}" if wrong else ""


def fitting(task: str, data: str | None) -> str:
    """Return the names of the recipes that a task supports on a data set, joined by commas."""
    return ", ".join(name for name, r in recipes().items() if not carried_in_part(r.settings, r.ignored, task, data))
