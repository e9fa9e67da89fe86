"""`--explain`: the whole tree of settings with types, ranges, defaults, descriptions, and what is in force and why."""

from __future__ import annotations

import textwrap
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from daemon.config import Loaded
from daemon.problems import dotted, section_of
from daemon.yaml_file import KeyPath

_BOUNDS = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"), ("min_length", "at least"), ("max_length", "at most"))


def explain(loaded: Loaded, width: int = 100) -> str:
    """The text: one block a setting; an item of a list is shown as `sources[0]`, the others by their values."""
    return "\n".join(_section(type(loaded.config), loaded.config, (), loaded, width)) + "\n"


def _section(
    model: type[BaseModel], value: BaseModel | None, path: KeyPath, loaded: Loaded, width: int
) -> Iterator[str]:
    for name, field in model.model_fields.items():
        now = getattr(value, name, None)
        yield from _setting((*path, name), field, now, loaded, width, given=value is not None)
        inner = section_of(field.annotation)
        if inner is None:
            continue
        items = list(enumerate(now)) if isinstance(now, list) else [(None, now)]
        for index, item in items or [(0, None)]:
            below = (*path, name) if index is None else (*path, name, index)
            yield from _section(inner, item, below, loaded, width)


def _setting(path: KeyPath, field: FieldInfo, now: Any, loaded: Loaded, width: int, *, given: bool) -> Iterator[str]:
    indent = "  " * (len(path) - 1)
    inner = section_of(field.annotation)
    yield f"{indent}{dotted(path)}"
    yield from textwrap.wrap(
        field.description or "", width, initial_indent=f"{indent}    ", subsequent_indent=f"{indent}    "
    )
    if inner is None:
        yield f"{indent}    {facts(field)}"
        if given:
            yield f"{indent}    now {_plain(now)} ({_origin(path, loaded)})"
    elif isinstance(now, list):
        yield f"{indent}    list, {len(now)} given"
    yield ""


def facts(field: FieldInfo) -> str:
    """Type, range and default of a setting: `whole number, >= 1, default 64`."""
    return ", ".join([_type(field.annotation), *_bounds(field), f"default {_default(field)}"])


def _origin(path: KeyPath, loaded: Loaded) -> str:
    inside = [origin for key, origin in loaded.origins.items() if key[: len(path)] == path]
    around = next((loaded.origins[path[:n]] for n in range(len(path), 0, -1) if path[:n] in loaded.origins), None)
    overrides = [origin for origin in inside if "LAKE__" in origin.upper()]
    if path in loaded.origins:
        return ", ".join(dict.fromkeys((loaded.origins[path], *overrides)))
    # An override of a whole section says where all that is in it comes from; one of the file says nothing of the rest.
    return around if around is not None and "LAKE__" in around.upper() else "default"


def _type(annotation: Any) -> str:
    if annotation is type(None):
        return "nothing"
    if typing.get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(annotation)))
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return " or ".join(_type(part) for part in typing.get_args(annotation))
    if typing.get_origin(annotation) is typing.Annotated:
        return _type(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (list, tuple):
        return f"list of {_type(typing.get_args(annotation)[0])}"
    if typing.get_origin(annotation) is dict:
        return "text by name"
    names = {str: "text", int: "whole number", float: "number", bool: "yes or no", Path: "path"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _bounds(field: FieldInfo) -> Iterator[str]:
    for constraint in field.metadata:
        for name, sign in _BOUNDS:
            bound = getattr(constraint, name, None)
            if bound is not None:
                yield f"{sign} {bound:g}" if isinstance(bound, int | float) else f"{sign} {bound}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "none: it must be given"
    return _plain(field.get_default(call_default_factory=True, validated_data={}))


def _plain(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    return str(value)
