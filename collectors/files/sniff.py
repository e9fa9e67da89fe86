"""The head of a text file as rows: encoding, delimiter, header, and where its data begin. Pure.

What cannot be told is asked for (`Unclear`), and what contradicts itself is refused: a column is never shifted.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from collectors.files.reading import Options, Refused, Sample, Unclear

ROWS = 2000
"""Rows of a sample."""
_DELIMITERS = ("\t", ";", "|")
_LOOKED_AT = 50
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_STARTS = re.compile(r"[-+.]?\d|nan$|null$|none$", re.IGNORECASE)
"""How values begin, which names of columns do not."""
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+")
_COMMA = re.compile(r"-?\d+,\d+")
JSON: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=str)
"""Of a number with a point the digits as they are: a float would not keep them."""


def encoding_of(head: bytes, options: Options) -> str:
    """What decodes the file. Raises Unclear where it is not UTF-8 and nobody said what it is."""
    if options.encoding is not None:
        try:
            b"ab".decode(options.encoding, "replace")  # some codecs are of no text
            return codecs.lookup(options.encoding).name
        except LookupError:
            raise Refused(f"no encoding {options.encoding!r} is known", "e.g. utf-8, utf-16, cp1252") from None
    for bom, name in _BOMS:
        if head.startswith(bom):
            return name
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError as error:
        found = f"it is not UTF-8 (byte {error.object[error.start]:#04x} at {error.start})"
        raise Unclear(found, "--encoding", hint="e.g. cp1252 or utf-16") from None
    return "utf-8"


def sample(name: str, head: bytes, encoding: str, options: Options, *, whole: bool) -> Sample:
    """The rows at the head of a file. `whole`: there is no more than this. Raises Refused, Unclear."""
    text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(head)
    if "\r" in text and "\n" not in text:
        raise Refused(f"the lines of {name} end with a carriage return alone", "rewrite it with line feeds")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if not whole and len(lines) > 1:
        lines.pop()  # may be cut in its middle
    if not any(line.strip() for line in lines):
        raise Refused(f"{name} is empty", "there is nothing to import")
    if text.lstrip()[:1] in ("[", "{"):
        return _of_json(name, text, lines, encoding, whole=whole)
    return _of_csv(name, lines, encoding, options)


def _of_csv(name: str, lines: list[str], encoding: str, options: Options) -> Sample:
    delimiter = options.delimiter or _delimiter(lines)
    if len(delimiter) != 1:
        raise Refused(f"--delimiter {delimiter!r} is not one character", "e.g. ';'")
    skip = 0
    while skip < len(lines) - 1 and delimiter not in lines[skip]:
        skip += 1
    reader = csv.reader(lines[skip : skip + ROWS], delimiter=delimiter)
    try:
        numbered = [(skip + reader.line_num, tuple(row)) for row in reader if any(row)]
    except csv.Error as error:
        raise Refused(
            f"{name} cannot be read as CSV: {error}", "say --delimiter, or check that it is a table"
        ) from error
    if not numbered or len(numbered[0][1]) < 2:
        raise Refused(f"{name} has one column only", "say --delimiter, or check that it is a table")
    header = None
    if _names(numbered[0][1], [row for _, row in numbered[1:]]):
        skip, names = numbered.pop(0)
        header = tuple(cell.strip() for cell in names)
    if not numbered:
        raise Refused(f"{name} has a header and no rows", "there is nothing to import")
    _check_width(name, header, numbered)
    table = [row for _, row in numbered]
    return Sample(
        name=name, format="csv", header=header, rows=tuple(table), delimiter=delimiter, skip=skip, encoding=encoding,
        comma=_comma(table, delimiter, options),
    )  # fmt: skip


def _delimiter(lines: Sequence[str]) -> str:
    """The one that cuts nearly every line into as many pieces; a comma only where no other does: it is in numbers."""
    some = [line for line in lines[:_LOOKED_AT] if line.strip()]
    for one in _DELIMITERS:
        count, times = Counter(line.count(one) for line in some).most_common(1)[0]
        if count and 10 * times >= 9 * (len(some) - 1):
            return one
    return ","


def _names(first: Sequence[str], others: Sequence[Sequence[str]]) -> bool:
    """Whether the first row holds names: nothing in it begins like a value, and something behind it does."""
    if any(_STARTS.match(cell.strip()) for cell in first):
        return False
    return any(cell.strip() for cell in first) and (
        not others or any(_STARTS.match(cell.strip()) for row in others[:3] for cell in row)
    )


def _check_width(name: str, header: Sequence[str] | None, table: Sequence[tuple[int, tuple[str, ...]]]) -> None:
    """`table` holds rows with their lines. Raises Refused where one is wider than the header, or the first."""
    first, row = table[0]
    width = len(header) if header is not None else len(row)
    for line, row in table:
        if len(row) <= width:
            continue
        if header is None:
            raise Refused(f"{name}: line {line} has {len(row)} columns, line {first} has {width}", "make them equal")
        raise Refused(
            f"{name}: its header names {width} columns, line {line} has {len(row)}",
            "columns are not guessed: put the missing name into the header",
        )


def _comma(table: Sequence[Sequence[str]], delimiter: str, options: Options) -> bool:
    """Whether numbers are written with a decimal comma. Raises Unclear where a comma may stand for thousands."""
    if options.decimal is not None:
        return options.decimal == "comma"
    cells = [cell.strip() for row in table for cell in row if "," in cell]
    numbers = [cell for cell in cells if _COMMA.fullmatch(cell)]
    if delimiter == "," and not numbers:
        return False
    if not numbers:
        return False
    if all(_THOUSANDS.fullmatch(cell) for cell in numbers):
        raise Unclear(f"{numbers[0]!r} may have a decimal comma, or thousands", "--decimal", ("point", "comma"))
    return True


def _of_json(name: str, text: str, lines: list[str], encoding: str, *, whole: bool) -> Sample:
    """Objects or arrays: one a line, or all of them in one array."""
    values = _values(name, text, lines, whole=whole)
    if not values:
        raise Refused(f"{name} holds no rows", "there is nothing to import")
    header = None
    if all(isinstance(value, dict) for value in values):
        header = tuple(dict.fromkeys(key for value in values if isinstance(value, dict) for key in value))
    elif not all(isinstance(value, list) for value in values):
        raise Refused(f"{name} is JSON, but no rows", "one object or array a line, or an array of them")
    rows = tuple(cells(value, header) for value in values)
    if header is None:
        _check_width(name, None, list(enumerate(rows, 1)))
    return Sample(name=name, format="json", header=header, rows=rows, encoding=encoding)


def _values(name: str, text: str, lines: Sequence[str], *, whole: bool) -> list[object]:
    try:
        if by_lines(text.lstrip().partition("\n")[0]):
            return [JSON.decode(line) for line in lines[:ROWS] if line.strip()]
        body = text.strip()
        cut = body if whole else body[: _last_end(body)] + "]"
        return list(JSON.decode(cut))[:ROWS]
    except (msgspec.DecodeError, TypeError, RecursionError) as error:
        raise Refused(
            f"{name} is not readable JSON: {error}", "one object or array a line, or an array of them"
        ) from error


def by_lines(line: str) -> bool:
    """Whether a file of this first line has a value on each line."""
    if line.lstrip().startswith("{"):
        return True
    try:
        found = JSON.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return False
    return isinstance(found, list) and not any(isinstance(value, list | dict) for value in found)


BETWEEN = re.compile(r"[\]}]\s*,\s*(?=[\[{])")
"""Where one element of an array ends and the next begins."""


def _last_end(text: str) -> int:
    place = 1
    for found in BETWEEN.finditer(text):
        place = found.start() + 1
    return place


def cells(value: object, header: Sequence[str] | None) -> tuple[str, ...]:
    """A row of JSON as texts: numbers with their digits, nothing as empty. Raises Refused."""
    if isinstance(value, dict) and header is not None:
        return tuple(_cell(value.get(name)) for name in header)
    if isinstance(value, list) and (header is None or not value):
        return tuple(_cell(one) for one in value)
    raise Refused("its rows are not alike: objects, arrays or others", "one object or array for each row")


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else msgspec.json.encode(value).decode()
