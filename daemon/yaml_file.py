"""A YAML file as plain values that know where they stand: the position of every value and key, every defect at once.

Stricter than YAML on purpose: no tags, no duplicate keys, keys are text, at most 256 KB, 20,000 values and 32 levels
after aliases are followed, so that a few lines cannot grow into gigabytes.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_BYTES = 256 * 1024
MAX_VALUES = 20_000
MAX_DEPTH = 32
_PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map"))

_TEXT_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("timestamp", "merge", "value"))
"""What YAML sees in plain text (dates, `<<`, `=`) and this does not."""

KeyPath: TypeAlias = tuple[str | int, ...]


class Place(msgspec.Struct, frozen=True, order=True):
    """A position counted from 1, as editors do."""

    line: int
    column: int


_START = Place(1, 1)


class Defect(msgspec.Struct, frozen=True):
    """Something wrong at a place of the file; `path` is the key path where one is known."""

    place: Place
    path: KeyPath
    message: str


class Document(msgspec.Struct):
    """`values` is what the file says, `places` where each value (and its key, under `keys`) stands."""

    values: dict[str, Any] = {}
    places: dict[KeyPath, Place] = {}
    keys: dict[KeyPath, Place] = {}
    defects: list[Defect] = []


def read(path: Path) -> Document:
    """The document in `path`. Raises OSError; whatever is wrong with the contents is in `defects`."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        return _broken(f"the file is larger than {MAX_BYTES // 1024} KB")
    try:
        return parse(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        return _broken("the file is not UTF-8", Place(line, 1))


def parse(text: str) -> Document:
    """The document in `text`."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
        return _broken(" ".join(str(p) for p in (error.context, error.problem) if p) or "is not YAML", place)
    except (yaml.YAMLError, RecursionError) as error:
        return _broken(f"is not YAML: {str(error).splitlines()[0] if str(error) else 'nested too deeply'}")
    document = Document()
    if node is None:
        return document
    if not isinstance(node, MappingNode):
        return _broken("the file must hold keys and values", _place(node))
    if node.tag not in _PLAIN_TAGS:
        return _broken(f"tags are not allowed here: {node.tag}", _place(node))
    try:
        document.values = _Reader(document).mapping(node, ())
    except _TooMuch as error:
        return _broken(str(error), _place(node))
    return document


def scalar(text: str) -> Any:
    """A single value written in YAML, as environment variables hold it. Raises ValueError."""
    document = parse(f"value: {text}\n" if text.strip() else "value: ''\n")
    if document.defects or set(document.values) != {"value"}:
        raise ValueError(document.defects[0].message if document.defects else "is not one value")
    return document.values["value"]


class _TooMuch(Exception):
    """The values are too many or too deep."""


class _Reader:
    """Turns nodes into values, noting places; an alias is followed anew each time, so what it costs is counted."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._count = 0
        self._scalars = SafeConstructor()

    def mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key is None:
                continue
            if key in values:
                first = self._document.keys[(*path, key)]
                self._defect(key_node, (*path, key), f"is given twice, first in line {first.line}")
                continue
            self._document.keys[(*path, key)] = _place(key_node)
            values[key] = self._value(value_node, (*path, key))
        return values

    def _value(self, node: Node, path: KeyPath) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            raise _TooMuch(f"holds more than {MAX_VALUES} values (aliases count each time)")
        if len(path) > MAX_DEPTH:
            raise _TooMuch(f"is nested more than {MAX_DEPTH} levels deep")
        self._document.places[path] = _place(node)
        if node.tag not in _PLAIN_TAGS:
            if isinstance(node, ScalarNode) and node.tag in _TEXT_TAGS:
                return node.value  # a date or the like: here it is text
            self._defect(node, path, f"tags are not allowed here: {node.tag}")
            return None
        if isinstance(node, MappingNode):
            return self.mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
        try:
            value: Hashable = self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            self._defect(node, path, f"cannot be read: {error}")
            return None
        return value

    def _key(self, node: Node, path: KeyPath) -> str | None:
        if isinstance(node, ScalarNode) and node.tag == "tag:yaml.org,2002:str":
            return str(node.value)
        if isinstance(node, ScalarNode) and node.tag in _PLAIN_TAGS:
            return str(node.value)  # a bare `on:` or `1:` is the text that stands there
        self._defect(node, path, "a key must be text")
        return None

    def _defect(self, node: Node, path: KeyPath, message: str) -> None:
        self._document.defects.append(Defect(_place(node), path, message))


def _place(node: Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)


def _broken(message: str, place: Place = _START) -> Document:
    return Document(defects=[Defect(place, (), message)])
