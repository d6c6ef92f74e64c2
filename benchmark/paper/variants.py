"""Variants: other readings of what a source leaves open, named in a suite beside the settings that they change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from benchmark.paper.suite import Cell, Layer, Setting, merge
from benchmark.paper.yamlfile import Place
from methods.spec import named

# Settings that say something of a cell and change no run; options act through the method.
WORDS = {"note", "source", "unstated", "options"}
# Settings of the published number: a variant is another way to reach the same one.
PUBLISHED = ("subject", "metric", "group", "standing", "runs", "epoch", "not_verifiable")


@dataclass
class Variants:
    """The variants of the cells of one suite."""

    of: dict[str, tuple[Cell, ...]] = field(default_factory=dict)  # by the cell's id
    acting: set[Place] = field(default_factory=set)  # where variants stand that change a cell

    def add(self, cell: Cell, layers: Mapping[Place, Layer]) -> Iterator[tuple[Cell, tuple[Place, ...]]]:
        """Add a cell's variants; yield each with the places of its settings, from the suite's to the cell's own.

        Those that change nothing of this cell are left out: a column's variant need not suit each row.
        """
        found: list[Cell] = []
        for name in dict.fromkeys(name for layer in layers.values() for name in layer.variants):
            written = {
                (*at, "variants", name): layer.variants[name] for at, layer in layers.items() if name in layer.variants
            }
            self.acting |= {
                at for at, variant in written.items() if _differ(cell.setting, varied(cell.setting, variant))
            }
            setting = varied(cell.setting, merge(*written.values()))
            if _differ(cell.setting, setting):
                notes = dict.fromkeys(variant.note for variant in written.values() if variant.note)
                found.append(replace(cell, setting=setting.model_copy(update={"note": "; ".join(notes)}), variant=name))
                yield found[-1], tuple(written)
        if found:
            self.of[cell.id] = tuple(found)


def varied(setting: Setting, variant: Setting) -> Setting:
    """Return a setting as a variant changes it. The variant's options win over the method's own."""
    changed = merge(setting, variant)
    options = variant.options or {}
    if variant.method is not None or not options or setting.method is None:
        return changed
    methods = {name: own | options.get(name, {}) for name, own in named(setting.method) if isinstance(own, dict)}
    return changed.model_copy(update={"method": methods}) if methods.keys() & options.keys() else changed


def problem_of(variant: Setting, *, acts: bool) -> str:
    """Return what is wrong with a variant as a suite has it; an empty string if nothing is."""
    if not (variant.note or "").strip():
        return "needs a `note`: the reading of the source that it is"
    if wrong := [name for name in PUBLISHED if getattr(variant, name) is not None]:
        return f"sets {', '.join(wrong)}, which it cannot change: it is compared with the number of its row"
    return "" if acts else "changes no cell here"


def _differ(one: Setting, other: Setting) -> bool:
    return one.model_dump(exclude=WORDS) != other.model_dump(exclude=WORDS)
