"""Lines as columns by a parser that makes numbers, too, where the bytes prove that it forgave nothing. Pure.

To read every number as text and hold it against a pattern takes several times as long as to parse it. But a parser
forgives: zeros in front, a plus, spaces, exponents, a point without a digit beside it, lines of another width. Each of
these is a byte, or a pair of bytes, and looking for such in a whole block costs a nanosecond a line: where none is
there, every number is spelt as `lake.scaled.STRICT` wants it. And with so few digits that a float says its text's
number, no text has to be kept. Anything else is a doubt, and the answer None: then the lines are read as texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa

MOST = 10**18
_DIGITS = 15
"""So many digits of a decimal survive in a float."""
_DECIMALS = 8
_PLAIN = re.compile(rb"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_LINE_FEED, _SPACE, _PLUS, _MINUS, _POINT, _ZERO, _NINE, _E = b"\n +-.09e"
_CAPITAL = 0x20
"""The bit that tells a capital letter from a small one."""


def columns(block: bytes, names: Sequence[str], wanted: Mapping[str, Any], separator: str = ",") -> pl.DataFrame | None:
    """Some columns of a block of whole lines: `wanted` is name -> Int64 (0 to below 10^18), Float64 (plain decimals,
    0 or more, of 15 digits at most) or String.

    None where there is a doubt, or a value that is not there.
    """
    cells = block[: block.find(b"\n")].split(separator.encode())
    numeric = [place for place, name in enumerate(names) if wanted.get(name, pl.String) != pl.String]
    if len(cells) != len(names) or not numeric or any(_PLAIN.fullmatch(cells[place]) is None for place in numeric):
        return None
    decimals = max(len(cells[place].partition(b".")[2]) for place in numeric)
    lines = _lines(block, len(names), ord(separator), decimals)
    if lines is None:
        return None
    schema = {name: wanted.get(name, pl.String) for name in names}
    try:
        frame = pl.read_csv(
            block, has_header=False, separator=separator, schema=schema, quote_char=None, empty_string_is_null=False,
            columns=[place for place, name in enumerate(names) if name in wanted],
        )  # fmt: skip
    except pl.exceptions.PolarsError:
        return None
    return frame if frame.height == lines and all(map(_sound, frame.iter_columns())) else None


def _sound(column: pl.Series) -> bool:
    if column.null_count():
        return False
    if column.dtype == pl.String:
        return True
    most = column.max()
    assert isinstance(most, (int, float))
    if column.dtype == pl.Int64:
        return most < MOST
    return bool(column.is_finite().all()) and most < 10 ** (_DIGITS - _DECIMALS)


def _lines(block: bytes, width: int, separator: int, decimals: int) -> int | None:
    """How many lines there are, if all have that many cells and no cell is a number that is spelt oddly.

    Looked at are the bytes beside the ends of cells, which are few. `decimals` are what most numbers may have.
    """
    if not block.endswith(b"\n") or b'"' in block:
        return None
    data = pl.Series(pl.from_arrow(pa.Array.from_buffers(pa.uint8(), len(block), [None, pa.py_buffer(block)])))
    feeds = data == _LINE_FEED
    lines = int(feeds.sum())
    ends = feeds | (data == separator)
    rows = data.filter(ends)
    if len(rows) != lines * width or not (rows.gather_every(width, width - 1) == _LINE_FEED).all():
        return None
    if int((data <= _SPACE).sum()) != lines or (_beside(data, ends, -1) == _POINT).any():
        return None
    first, second = _beside(data, ends, 1), _beside(data, ends, 2)
    if any((first == odd).any() for odd in (_PLUS, _MINUS, _POINT)):
        return None
    if not _one_of(second.filter((first == _ZERO).slice(0, len(second))), (_LINE_FEED, separator, _POINT)):
        return None
    for letter in (_E, _E ^ _CAPITAL):
        before = _beside(data, data == letter, -1)
        if (before.is_between(_ZERO, _NINE) | (before == _POINT)).any():
            return None
    points = data == _POINT
    if decimals <= _DECIMALS and _one_of(_beside(data, points, decimals + 1), (_LINE_FEED, separator)):
        return lines
    long = _runs(~ends, _DECIMALS + 1)
    return None if (points.slice(0, len(long) - 1) & long.slice(1)).any() else lines


def _beside(data: pl.Series, those: pl.Series, by: int) -> pl.Series:
    """The bytes so far behind those, or before them."""
    if by < 0:
        return data.slice(0, len(data) + by).filter(those.slice(-by))
    return data.slice(by).filter(those.slice(0, len(data) - by))


def _one_of(found: pl.Series, allowed: Sequence[int]) -> bool:
    good = found == allowed[0]
    for other in allowed[1:]:
        good |= found == other
    return bool(good.all())


def _runs(held: pl.Series, length: int) -> pl.Series:
    """Where so many (9 to 16) of a sort begin to follow each other."""
    for step in (1, 2, 4, length - 8):
        held = held.slice(0, len(held) - step) & held.slice(step)
    return held
