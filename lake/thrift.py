"""Thrift's compact protocol, of which the footers of Parquet files are made: read into structs, and written again.

Pure. Nothing here knows what the fields mean (parquet.thrift does): a struct is its fields by their ids, each with its
wire type, so that what is read and written again is the same bytes, fields that are newer than this code included.
Source: the specification "Thrift compact protocol" of Apache Thrift.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

BOOL, _FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, _MAP, STRUCT = range(1, 13)
"""Wire types. That of a field which is false says so; here it is BOOL, like that of one which is true."""
_WIDTHS = {BYTE: 1, DOUBLE: 8}
_INTEGERS = (I16, I32, I64)
_LONG = 15
"""A list of so many values, or more, has its length behind its head."""


class Field(NamedTuple):
    """A wire type and a value: bool, int, bytes (those of BYTE and DOUBLE as they lie there), Many or Struct."""

    type: int
    value: Any


class Many(NamedTuple):
    """The values of a list or a set, and their wire type."""

    type: int
    values: list[Any]


Struct: TypeAlias = dict[int, Field]
"""Fields by their ids, in their order."""


class Unreadable(ValueError):
    """Bytes that are no struct of the compact protocol."""


def decode(data: bytes, at: int = 0) -> tuple[Struct, int]:
    """The struct that begins at `at`, and where it ends. Raises Unreadable."""
    try:
        return _struct(data, at)
    except (IndexError, RecursionError) as error:
        raise Unreadable(f"these {len(data) - at} bytes end in the middle of a struct") from error


def encode(struct: Struct) -> bytes:
    """The bytes of a struct."""
    made = bytearray()
    _put_struct(made, struct)
    return bytes(made)


def varint(value: int) -> bytes:
    """A number that is not negative, seven bits a byte, the lowest first."""
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def zigzag(value: int) -> bytes:
    """An integer as the protocol writes it: small ones are short, whatever their sign."""
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


def list_head(count: int, kind: int) -> bytes:
    """What a list of so many values of a wire type begins with."""
    return bytes([count << 4 | kind]) if count < _LONG else bytes([_LONG << 4 | kind]) + varint(count)


def _put_struct(made: bytearray, struct: Struct) -> None:
    last = 0
    for number, (kind, value) in struct.items():
        shown = _FALSE if kind == BOOL and not value else kind
        step = number - last
        if 0 < step <= _LONG:
            made.append(step << 4 | shown)
        else:
            made.append(shown)
            made += zigzag(number)
        if kind != BOOL:
            _put(made, kind, value)
        last = number
    made.append(0)


def _put(made: bytearray, kind: int, value: Any) -> None:
    if kind in _INTEGERS:
        made += zigzag(value)
    elif kind == STRUCT:
        _put_struct(made, value)
    elif kind == BINARY:
        made += varint(len(value)) + value
    elif kind in (LIST, SET):
        made += list_head(len(value.values), value.type)
        for one in value.values:
            if value.type == BOOL:  # in a list a truth has a byte
                made.append(BOOL if one else _FALSE)
            else:
                _put(made, value.type, one)
    else:
        made += value


def _struct(data: bytes, at: int) -> tuple[Struct, int]:
    fields: Struct = {}
    number = 0
    while head := data[at]:
        at += 1
        if head >> 4:
            number += head >> 4
        else:
            number, at = _integer(data, at)
        kind = head & 15
        if kind in (BOOL, _FALSE):
            fields[number] = Field(BOOL, kind == BOOL)
        else:
            value, at = _value(data, at, kind)
            fields[number] = Field(kind, value)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in _INTEGERS:
        return _integer(data, at)
    if kind == BINARY:
        size, at = _plain(data, at)
        return bytes(data[at : at + size]), at + size
    if kind == STRUCT:
        return _struct(data, at)
    if kind in (LIST, SET):
        return _list(data, at)
    if kind in _WIDTHS:
        return bytes(data[at : at + _WIDTHS[kind]]), at + _WIDTHS[kind]
    raise Unreadable(f"a field of wire type {kind}")


def _list(data: bytes, at: int) -> tuple[Many, int]:
    kind, count = data[at] & 15, data[at] >> 4
    at += 1
    if count == _LONG:
        count, at = _plain(data, at)
    values: list[Any] = []
    for _ in range(count):
        if kind in (BOOL, _FALSE):
            value, at = data[at] == BOOL, at + 1
        else:
            value, at = _value(data, at, kind)
        values.append(value)
    return Many(BOOL if kind == _FALSE else kind, values), at


def _integer(data: bytes, at: int) -> tuple[int, int]:
    value, at = _plain(data, at)
    return (value >> 1) ^ -(value & 1), at


def _plain(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
