"""Typed options of methods. Free of torch, so that listings and identities never wait for it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class MethodOptions(BaseModel):
    """Base of every method's `Options`: unknown names are errors, values are checked and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def option(default: Any, doc: str, *, source: str = "", **limits: Any) -> Any:
    """One option: its default, what it does, and where the default comes from.

    `limits` are pydantic's (`gt`, `ge`, `lt`, `le`, ...).
    """
    return Field(default=default, description=doc, json_schema_extra={"source": source}, **limits)


def _method_reference(value: Any) -> Any:
    """Accept `name` or `{name: options}`, check both, and store `{name: non-default options}`."""
    from methods.spec import MethodSpec  # a cycle: a spec resolves options, and an option may be a spec

    return MethodSpec.parse(value).as_yaml()


# An option that names another method, as a distance between two tensors: `dist` or `{dist: {tau: 4}}`.
MethodReference = Annotated[dict[str, Any], BeforeValidator(_method_reference)]
