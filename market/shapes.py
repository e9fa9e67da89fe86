"""Shapes: which keys a venue's message has and what stands under them, and what of a message is otherwise. Pure.

A shape is written as paths with blanks between: `topic ts:ms data[].p data[].BT:bool data[].seq?:int|text`. Keys are
joined by dots, `[]` behind a key says a list, `*` any key, `?` that a key may be missing. After a colon stand the
types, `text` where there is none: text, int, num (any number), bool, null, any (whatever it is, never looked into), or
the unit of a time that is a whole number, as number or text: s, ms, us, ns. An empty or zero time is no time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

Change = Literal["added", "missing", "type", "unit"]
UNITS = {"s": 10**8, "ms": 10**11, "us": 10**14, "ns": 10**17}
"""Unit -> the least number that is a time in it; each covers the years 1973 to 5138 and no other unit's."""
ANY, ANY_KEY, TEXT, INT, NUM, BOOL, NULL = "any", "*", "text", "int", "num", "bool", "null"
TYPES = frozenset({ANY, TEXT, INT, NUM, BOOL, NULL, *UNITS})
ITEMS = 4
"""Items of a list that are looked at: its first ones, and the last."""
MOST = 50
"""Differences of one message that are told."""


class Difference(msgspec.Struct, frozen=True):
    """What of a message is not as its shape says. `path` as shapes write it; `detail` is for people."""

    change: Change
    path: str
    detail: str = ""


class Shape(msgspec.Struct):
    """What stands in one place: types of its plain values, or the keys of an object, or the items of a list."""

    types: frozenset[str] = frozenset()
    fields: dict[str, Shape] = {}
    required: set[str] = set()
    items: Shape | None = None


def shape(text: str) -> Shape:
    """The shape that a text says. Raises ValueError for a type that is none."""
    root = Shape()
    optional: set[tuple[int, str]] = set()
    for word in text.split():
        path, _, said = word.partition(":")
        types = frozenset((said or TEXT).split("|"))
        if not types <= TYPES:
            raise ValueError(f"{word}: no type {', '.join(sorted(types - TYPES))}")
        place = root
        for part in path.split("."):
            place = _step(place, part, optional)
        place.types |= types
    _close(root, optional)
    return root


def _step(place: Shape, part: str, optional: set[tuple[int, str]]) -> Shape:
    key, lists = part.rstrip("[]"), part.count("[]")
    name = key.rstrip("?")
    if name:
        if key.endswith("?"):
            optional.add((id(place), name))
        place = place.fields.setdefault(name, Shape())
    for _ in range(lists):
        if place.items is None:
            place.items = Shape()
        place = place.items
    return place


def _close(place: Shape, optional: set[tuple[int, str]]) -> None:
    place.required = {name for name in place.fields if name != ANY_KEY and (id(place), name) not in optional}
    for child in (*place.fields.values(), *((place.items,) if place.items is not None else ())):
        _close(child, optional)


def shapes(texts: Mapping[str, str]) -> dict[str, Shape]:
    """Message -> its shape."""
    return {name: shape(text) for name, text in texts.items()}


def differences(declared: Shape, value: object) -> list[Difference]:
    """What of a decoded message is not as declared, each once, at most MOST."""
    found: dict[tuple[str, str], Difference] = {}
    for one in _compare(declared, value, ""):
        found.setdefault((one.change, one.path), one)
        if len(found) >= MOST:
            break
    return list(found.values())


def _compare(declared: Shape, value: object, path: str) -> Iterator[Difference]:
    if ANY in declared.types:
        return
    if isinstance(value, dict):
        if not declared.fields:
            yield Difference("type", path, f"an object, not {_said(declared)}")
            return
        for key, held in value.items():
            child = declared.fields.get(key)
            name = key
            if child is None and (child := declared.fields.get(ANY_KEY)) is not None:
                name = ANY_KEY
            there = f"{path}.{name}" if path else name
            if child is None:
                yield Difference("added", there[:200], type_of(held))
            else:
                yield from _compare(child, held, there)
        for key in sorted(declared.required - value.keys()):
            yield Difference("missing", f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        if declared.items is None:
            yield Difference("type", path, f"a list, not {_said(declared)}")
            return
        for held in (*value[:ITEMS], *value[ITEMS:][-1:]):
            yield from _compare(declared.items, held, f"{path}[]")
    else:
        yield from _plain(declared, value, path)


def _plain(declared: Shape, value: object, path: str) -> Iterator[Difference]:
    kind, units = type_of(value), declared.types & UNITS.keys()
    if kind in declared.types or (kind == INT and NUM in declared.types):
        return
    if units and (number := _whole(value)) is not None:
        unit = unit_of(number)
        if unit is not None and unit not in units:
            yield Difference("unit", path, f"{unit} instead of {' or '.join(sorted(units))}")
        if unit is not None or number <= 0:
            return
    if not (units and value == ""):
        yield Difference("type", path, f"{kind}, not {_said(declared)}")


def _said(declared: Shape) -> str:
    if declared.fields:
        return "an object"
    return "a list" if declared.items is not None else " or ".join(sorted(declared.types)) or "anything"


def _whole(value: object) -> int | None:
    """A whole number, as number or text."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) <= 20 else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def unit_of(number: int) -> str | None:
    """The unit in which a number is a time of 1973 to 5138; None where it is in none."""
    return next((unit for unit, least in UNITS.items() if least <= number < least * 1000), None)


def type_of(value: object) -> str:
    """How a shape writes what a value is: its plain type, `object` or `list`."""
    if value is None:
        return NULL
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, int):
        return INT
    if isinstance(value, float):
        return NUM
    if isinstance(value, str):
        return TEXT
    return "object" if isinstance(value, dict) else "list"
