"""Typed options of methods. Free of torch, so that listings and identities never wait for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from benchmark.errors import UsageError

T = TypeVar("T")


class MethodOptions(BaseModel):
    """The base of every method's `Options`: unknown names are errors, values are checked and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def option(default: T, doc: str, *, source: str = "", **limits: float) -> T:
    """Declare one option: its default, a description, and the source of the default.

    `limits` are pydantic's (`gt`, `ge`, `lt`, `le`, ...). What is returned is pydantic's field; its type is given as
    the default's, so that a class body can assign it to the option.
    """
    declare: Callable[..., T] = Field
    return declare(default=default, description=doc, json_schema_extra={"source": source}, **limits)


def method_reference(value: object) -> Mapping[str, object]:
    """Accept `name` or `{name: options}` of a distance, check both, and store `{name: non-default options}`."""
    from methods.registry import methods  # two cycles: a spec resolves options, and an option may be a spec
    from methods.spec import MethodSpec

    try:
        spec = MethodSpec.parse(value)
    except UsageError as error:  # told as this option's problem, at its line
        raise PydanticCustomError("wrong_method", "{message}", {"message": error.message}) from error
    distances = ", ".join(sorted(entry.name for entry in methods().values() if entry.is_distance))
    if len(spec.parts) != 1 or not spec.parts[0][0].is_distance:
        message = "{name} is no distance between two tensors; these are: {distances}"
        raise PydanticCustomError("no_distance", message, {"name": spec.name, "distances": distances})
    return spec.as_yaml()


# An option that names another method, as a distance between two tensors: `dist` or `{dist: {tau: 4}}`.
MethodReference = Annotated[dict[str, object], BeforeValidator(method_reference)]
