"""The settings of a recipe that each task, optimiser and schedule supports, as data. Other settings are refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmark.paper.recipe import Recipe

Names = tuple[str, ...]  # of settings

CHOICES = ("optimizer", "schedule", "augmentation")
EVERYWHERE = ("epochs", "batch", "per_device_batch", "lr", "weight_decay", "warmup_epochs", "warmup_lr", "clip_grad")

OPTIMIZERS: Mapping[str, Names] = {  # train/engine/optimizer.py
    "sgd": ("momentum", "nesterov", "decay_vectors", "no_decay"),
    "adamw": ("decay_vectors", "no_decay", "optimizer_eps"),
    "rmsproptf": ("momentum", "decay_vectors", "no_decay", "optimizer_eps"),
}
SCHEDULES: Mapping[str, Names] = {  # train/engine/schedule.py
    "constant": (),
    "step": ("milestones", "decay"),
    "exponential": ("decay", "decay_epochs", "min_lr", "after_warmup"),
    "cosine": ("min_lr", "after_warmup"),
    "poly": ("power", "min_lr"),
}
# Revisions of optimisers, schedules and augmentations, raised when a change alters results: {"schedule cosine": 2}.
REVISIONS: Mapping[str, int] = {}
DENSE_OPTIMIZERS: Mapping[str, Names] = {"sgd": ("momentum",)}  # train/dense; decay by its own rules

# Settings that only have a meaning beside another one: that must be on, or off.
BESIDE = {
    "warmup_lr": ("warmup_epochs", True),
    "after_warmup": ("warmup_epochs", True),
    "color_jitter": ("randaugment", False),  # timm's rule: data/decode.py
    "randaugment_operations": ("randaugment", True),
}


@dataclass(frozen=True)
class Honoured:
    """The settings that one task supports: its own, and those of each choice that it has."""

    name: str
    settings: Names
    optimizer: Mapping[str, Names]
    schedule: Mapping[str, Names]
    augmentation: Mapping[str, Names]

    def names(self, recipe: Recipe) -> Names:
        """Return the settings that have an effect beside the recipe's choices, in the order of recipes."""
        known = {*CHOICES, *EVERYWHERE, *self.settings}
        for choice in CHOICES:
            allowed, made = getattr(self, choice), getattr(recipe, choice)
            known.update(*([allowed[made]] if made in allowed else allowed.values()))
        beside = {name for name, (other, on) in BESIDE.items() if bool(getattr(recipe, other)) is not on}
        return tuple(name for name in Recipe.model_fields if name in known - beside)

    def unsupported(self, recipe: Recipe) -> dict[str, str]:
        """Return, by name, the settings without effect and the choices that the task does not have."""
        names = self.names(recipe)
        found = {name: f"{name} {getattr(recipe, name)}" for name in recipe.canonical() if name not in names}
        for choice in CHOICES:
            if (value := getattr(recipe, choice)) not in getattr(self, choice):
                found[choice] = f"{choice} {value}"
        return found

    def described(self, recipe: Recipe) -> str:
        """Format the settings that the task supports, with its choices in brackets."""
        described = []
        for name in self.names(recipe):
            allowed = getattr(self, name) if name in CHOICES else ()
            described.append(f"{name} ({' or '.join(allowed)})" if allowed else name)
        return f"{self.name} honours {', '.join(described)}"


CLASSIFIERS = ("label_smoothing", "ema", "dropout", "drop_path")
MIXED = ("interpolation", "randaugment", "randaugment_operations", "random_erasing", "color_jitter", "mixup", "cutmix")

# By task: what is honoured on data sets of each layout. The first is taken for a data set that is not known.
CLASSIFICATION = {
    "memory": Honoured("classification of images on the device", CLASSIFIERS, OPTIMIZERS, SCHEDULES, {"crop-flip": ()}),
    "image folder": Honoured(
        "classification of a folder of images", CLASSIFIERS, OPTIMIZERS, SCHEDULES, {"inception": MIXED}
    ),
}
DETECTION = {
    "coco": Honoured(
        "detection", (), DENSE_OPTIMIZERS, {"step": ("milestones", "decay")}, {"detection": ("short_sides",)}
    )
}
SEGMENTATION = {
    "cityscapes": Honoured(
        "segmentation",
        ("iterations", "evaluate_steps"),
        DENSE_OPTIMIZERS,
        {"poly": ("power", "min_lr")},
        {"segmentation": ("crop",)},
    )
}
