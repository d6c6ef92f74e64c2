"""The parsed, checked and canonical form of a manifest's `method:`: its methods and their options."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from pydantic import ValidationError

from benchmark.errors import UsageError, nearest
from methods.options import MethodOptions, method_reference
from methods.registry import MethodEntry, method

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from methods.base import Method


# Where in a spec something is wrong, as `(method, option, ...)`, and what.
OptionProblem = tuple[tuple[str, ...], str]


class WrongMethod(UsageError):
    """The error of a method or option that does not exist or fit; it lists every problem with its place in the spec."""

    def __init__(self, problems: Sequence[OptionProblem], fix: str) -> None:
        super().__init__("; ".join(message for _, message in problems), fix)
        self.problems = tuple(problems)


class CanonicalPart(TypedDict):
    """One method of a spec as an identity has it."""

    name: str
    revision: int
    options: dict[str, object]


@dataclass(frozen=True)
class MethodSpec:
    """One method, or a sum of several, with validated options."""

    parts: tuple[tuple[MethodEntry, MethodOptions], ...]

    @classmethod
    def parse(cls, value: object) -> MethodSpec:
        """Parse `kd`, `{kd: {temperature: 4}}`, `{kd: {}, mse: {}}` or a list of these (a sum).

        Raises:
            WrongMethod: an unknown method or option, or a wrong value, all named at once.
        """
        parts: list[tuple[MethodEntry, MethodOptions]] = []
        problems: list[OptionProblem] = []
        asked = named(value)
        for name, options in asked:
            try:
                parts.append(_part(name, options))
            except WrongMethod as wrong:
                problems += wrong.problems
        twice = [name for name, count in Counter(name for name, _ in asked).items() if count > 1]
        problems += [((name,), f"{name!r} is there twice: a sum names each method once") for name in twice]
        if problems:
            methods_wrong = dict.fromkeys(place[0] for place, _ in problems if len(place) > 1)
            fix = "; ".join(f"python -m benchmark show method {name}" for name in methods_wrong)
            raise WrongMethod(problems, fix or "python -m benchmark list methods")
        return cls(tuple(parts))

    def as_yaml(self) -> dict[str, dict[str, object]]:
        """Return `{name: options that differ from their defaults}`. Parsing it gives the spec again."""
        return {entry.name: options.model_dump(mode="json", exclude_defaults=True) for entry, options in self.parts}

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the spec as a manifest writes it: another process finds the method in the code that it runs."""
        return _parsed, (self.as_yaml(),)

    def canonical(self) -> list[CanonicalPart]:
        """Return the identity's part: names, revisions and options that differ from their defaults, also nested ones.

        An option at its default is left out, so that a new option does not change what exists.
        """
        return [
            {"name": entry.name, "revision": entry.revision, "options": _canonical_options(options)}
            for entry, options in sorted(self.parts, key=lambda part: part[0].name)
        ]

    @property
    def name(self) -> str:
        """Return the method's name: `kd`, or `kd+mse` for a sum."""
        return "+".join(entry.name for entry, _ in self.parts)

    @property
    def needs_teacher(self) -> bool:
        """Return True if any part needs a teacher."""
        return any(entry.needs_teacher for entry, _ in self.parts)

    def resolved(self) -> dict[str, dict[str, object]]:
        """Return every option with its effective value, for records."""
        return {entry.name: options.model_dump(mode="json") for entry, options in self.parts}

    def make(self) -> Method:
        """Make the method itself, not yet built for a pair. Imports torch."""
        made = [entry.load()(entry.load().Options(**options.model_dump())) for entry, options in self.parts]
        if len(made) == 1:
            return made[0]
        from methods.sum import SumOfMethods

        return SumOfMethods(made)


def _parsed(value: dict[str, dict[str, object]]) -> MethodSpec:
    # A function of the module is pickled by name; the class method would carry its code along.
    return MethodSpec.parse(value)


def named(value: object) -> list[tuple[str, object]]:
    """Return names and options in the order written."""
    if isinstance(value, str):
        return [(name.strip(), {}) for name in value.split("+")]
    if isinstance(value, dict) and value:
        return [(str(name), options or {}) for name, options in value.items()]
    if isinstance(value, list) and value:
        return [part for item in value for part in named(item)]
    form = "write `kd`, `{kd: {temperature: 4}}`, or a list of these"
    raise WrongMethod([((), f"{value!r} is no method")], form)


def _part(name: str, options: object) -> tuple[MethodEntry, MethodOptions]:
    try:
        entry = method(name)
    except UsageError as error:
        raise WrongMethod([((name,), f"{error.message}; {error.fix}")], "python -m benchmark list methods") from error
    hint = f"python -m benchmark show method {name}"
    if not isinstance(options, dict):
        message = f"the options of {name!r} are {options!r}: write `{{{name}: {{option: value}}}}`"
        raise WrongMethod([((name,), message)], hint)
    try:
        # As JSON, where strictness knows that a list may stand for a tuple: "4" and true are no numbers.
        return entry, entry.options.model_validate_json(json.dumps(options, default=str), strict=True)
    except ValidationError as error:
        places = [(name, *map(str, problem["loc"])) for problem in error.errors()]
        wrong = [f"{'.'.join(p)}: {_say(e, entry)}" for p, e in zip(places, error.errors(), strict=True)]
        raise WrongMethod(list(zip(places, wrong, strict=True)), hint) from error


def _say(error: ErrorDetails, entry: MethodEntry) -> str:
    if error["type"] == "extra_forbidden":
        return f"no such option; {nearest(str(error['loc'][-1]), entry.options.model_fields)}"
    return f"{error['msg'][0].lower()}{error['msg'][1:]} (got {error['input']!r})"


def _canonical_options(options: MethodOptions) -> dict[str, object]:
    changed = options.model_dump(mode="json", exclude_defaults=True)
    found: dict[str, object] = {}
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
