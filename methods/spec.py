"""Which method with which options: the parsed, checked and canonical form of a manifest's `method:`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from benchmark.errors import UsageError, nearest
from methods.options import MethodOptions, method_reference
from methods.registry import MethodEntry, method

if TYPE_CHECKING:
    from methods.base import Method


@dataclass(frozen=True)
class MethodSpec:
    """One method, or a sum of several, with validated options."""

    parts: tuple[tuple[MethodEntry, MethodOptions], ...]

    @classmethod
    def parse(cls, value: Any) -> MethodSpec:
        """From `kd`, `{kd: {temperature: 4}}`, `{kd: {}, mse: {}}` or a list of these (a sum).

        Raises:
            UsageError: an unknown method or option, or a wrong value, all named at once.
        """
        if isinstance(value, str):
            return cls(tuple(_part(name.strip(), {}) for name in value.split("+")))
        if isinstance(value, dict) and value:
            return cls(tuple(_part(str(name), options or {}) for name, options in value.items()))
        if isinstance(value, list) and value:
            return cls(tuple(part for item in value for part in cls.parse(item).parts))
        raise UsageError(f"{value!r} is no method", "write `kd`, `{kd: {temperature: 4}}`, or a list of these")

    def as_yaml(self) -> dict[str, Any]:
        """`{name: options that differ from their defaults}`; parsing it gives the spec again."""
        return {entry.name: options.model_dump(mode="json", exclude_defaults=True) for entry, options in self.parts}

    def canonical(self) -> list[dict[str, Any]]:
        """For the identity: names, revisions and the options that differ from their defaults, nested ones too.

        An option at its default is left out, so that a new option does not change what exists.
        """
        return [
            {"name": entry.name, "revision": entry.revision, "options": _canonical_options(options)}
            for entry, options in sorted(self.parts, key=lambda part: part[0].name)
        ]

    @property
    def name(self) -> str:
        """`kd`, or `kd+mse` for a sum."""
        return "+".join(entry.name for entry, _ in self.parts)

    @property
    def needs_teacher(self) -> bool:
        """Whether any part sees a teacher."""
        return any(entry.needs_teacher for entry, _ in self.parts)

    def resolved(self) -> dict[str, Any]:
        """Every option with its effective value, for records."""
        return {entry.name: options.model_dump(mode="json") for entry, options in self.parts}

    def make(self) -> Method:
        """The method itself, not yet built for a pair. Imports torch."""
        made = [entry.load()(entry.load().Options(**options.model_dump())) for entry, options in self.parts]
        if len(made) == 1:
            return made[0]
        from methods.sum import SumOfMethods

        return SumOfMethods(made)


def _part(name: str, options: Any) -> tuple[MethodEntry, MethodOptions]:
    entry = method(name)
    if not isinstance(options, dict):
        raise UsageError(f"the options of {name!r} are {options!r}", f"write `{{{name}: {{option: value}}}}`")
    try:
        return entry, entry.options(**options)
    except ValidationError as error:
        wrong = [f"{name}.{'.'.join(map(str, e['loc']))}: {_say(e, entry)}" for e in error.errors()]
        raise UsageError("; ".join(wrong), f"python -m benchmark show method {name}") from error


def _say(error: Any, entry: MethodEntry) -> str:
    if error["type"] == "extra_forbidden":
        return f"no such option; {nearest(str(error['loc'][-1]), entry.options.model_fields)}"
    return f"{error['msg'][0].lower()}{error['msg'][1:]} (got {error['input']!r})"


def _canonical_options(options: MethodOptions) -> dict[str, Any]:
    changed = options.model_dump(mode="json", exclude_defaults=True)
    found: dict[str, Any] = {}
    for name, value in options.model_dump(mode="json").items():
        if _is_reference(type(options), name) and value:
            canonical = MethodSpec.parse(value).canonical()
            # A default is left out, like any other, but not once the method it names gives other results.
            if name in changed or any(part["revision"] > 1 for part in canonical):
                found[name] = canonical
        elif name in changed:
            found[name] = value
    return dict(sorted(found.items()))


def _is_reference(options: type[MethodOptions], name: str) -> bool:
    validators = (getattr(mark, "func", None) for mark in options.model_fields[name].metadata)
    return any(validator is method_reference for validator in validators)
